use std::net::IpAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::error::SettingsError;
use super::parameters::Parameters;

/// Where Debian's and Docker's servers have their socket.
const SOCKETS: &str = "/var/run/postgresql";
/// Where a server has it that was built without saying where.
const BUILT_IN_SOCKETS: &str = "/tmp";
const PORT: u16 = 5432;

#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) password: Option<SecretString>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// `name` is what the certificate has to name; `ip` is connected to, if it is given.
    Tcp { name: String, ip: Option<IpAddr> },
    /// The folder of a Unix-domain socket.
    Socket(PathBuf),
}

impl Address {
    /// `host:port`, for messages.
    pub(crate) fn shown(&self) -> String {
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => format!("[{name}]:{}", self.port),
            Host::Tcp { name, .. } => format!("{name}:{}", self.port),
            Host::Socket(folder) => format!("{}:{}", folder.display(), self.port),
        }
    }

    /// As libpq: the built-in socket's folder is called `localhost` there.
    pub(super) fn in_passfile(&self) -> String {
        match &self.host {
            Host::Tcp { name, .. } => name.clone(),
            Host::Socket(folder)
                if [SOCKETS, BUILT_IN_SOCKETS]
                    .iter()
                    .any(|built_in| folder == Path::new(built_in)) =>
            {
                "localhost".to_owned()
            }
            Host::Socket(folder) => folder.to_string_lossy().into_owned(),
        }
    }
}

/// One for each of `host` or `hostaddr`; the default socket's folder without both.
pub(super) fn addresses(parameters: &Parameters) -> Result<Vec<Address>, SettingsError> {
    let list = |keyword| -> Vec<&str> {
        let text = parameters.get(keyword);
        text.map(|text| text.split(',').collect())
            .unwrap_or_default()
    };
    let (names, ips, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(ips.len()).max(1);
    let fits = |what, found: usize| {
        let fits = [0, count].contains(&found);
        fits.then_some(()).ok_or(SettingsError::Count {
            what,
            hosts: count,
            found,
        })
    };
    fits("each of hostaddr belongs to a host", ips.len())?;
    fits("each host belongs to one of hostaddr", names.len())?;
    if ports.len() != 1 {
        fits(
            "one port is for all hosts, several are for one each",
            ports.len(),
        )?;
    }
    (0..count)
        .map(|at| {
            let name = names.get(at).copied().unwrap_or("");
            let ip = match ips.get(at).copied().unwrap_or("") {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| SettingsError::Value {
                    option: "hostaddr",
                    expected: "no IP address",
                })?),
            };
            let host = match (name, ip) {
                (path, None) if path.starts_with('/') => Host::Socket(PathBuf::from(path)),
                ("", None) => Host::Socket(PathBuf::from(SOCKETS)),
                ("", Some(ip)) => Host::Tcp {
                    name: ip.to_string(),
                    ip: Some(ip),
                },
                (name, ip) => Host::Tcp {
                    name: name.to_owned(),
                    ip,
                },
            };
            let port = ports.get(at).or(ports.first()).copied().unwrap_or("");
            let port = match port.trim() {
                "" => PORT,
                text => {
                    text.parse()
                        .ok()
                        .filter(|port| *port != 0)
                        .ok_or(SettingsError::Value {
                            option: "port",
                            expected: "no port number",
                        })?
                }
            };
            Ok(Address {
                host,
                port,
                password: None,
            })
        })
        .collect()
}
