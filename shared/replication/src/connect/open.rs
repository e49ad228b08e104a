use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use walferry_tls::SslMode;

use super::login::{Login, log_in};
use super::tls;
use crate::error::ReplicationError;
use crate::settings::{Address, Host, ServerSettings};
use crate::wire::{Stream, Wire};

/// A connection to the first of the servers that lets somebody in.
pub(crate) async fn open(settings: &ServerSettings) -> Result<Wire, ReplicationError> {
    let tls = config(settings).await?;
    let mut last = None;
    for address in &settings.addresses {
        let limit = settings.connect_timeout;
        let opened = timeout(limit, one(settings, address, tls.clone())).await;
        let error = match opened {
            Ok(Ok(wire)) => return Ok(wire),
            Ok(Err(error)) => error,
            Err(_) => ReplicationError::ConnectTimeout {
                server: address.shown(),
                limit,
            },
        };
        // As libpq: the next host is for one that is away, not for a wrong password.
        match error {
            ReplicationError::Unreachable { .. }
            | ReplicationError::ConnectTimeout { .. }
            | ReplicationError::NotReady { .. }
            | ReplicationError::Gone { .. } => last = Some(error),
            error => return Err(error),
        }
    }
    Err(last.expect("settings name at least one server"))
}

/// Reads certificates, so on a thread for files; `None` where no TLS is used.
async fn config(settings: &ServerSettings) -> Result<Option<Arc<ClientConfig>>, ReplicationError> {
    let over_network = |address: &Address| matches!(address.host, Host::Tcp { .. });
    if settings.ssl_mode == SslMode::Disable || !settings.addresses.iter().any(over_network) {
        return Ok(None);
    }
    let settings = settings.clone();
    let reading = tokio::task::spawn_blocking(move || tls::config(&settings));
    let config = reading
        .await
        .expect("reading certificates neither panics nor is it cancelled")?;
    Ok(Some(Arc::new(config)))
}

async fn one(
    settings: &ServerSettings,
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Wire, ReplicationError> {
    let server = address.shown();
    let unreachable = |source| ReplicationError::Unreachable {
        server: server.clone(),
        source,
    };
    let (stream, private): (Box<dyn Stream>, bool) = match &address.host {
        Host::Socket(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", address.port));
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            (Box::new(stream), true)
        }
        Host::Tcp { name, ip } => {
            let stream = match ip {
                Some(ip) => TcpStream::connect((*ip, address.port)).await,
                None => TcpStream::connect((name.as_str(), address.port)).await,
            };
            let stream = stream.and_then(tuned).map_err(unreachable)?;
            match tls {
                None => (Box::new(stream), false),
                Some(config) => encrypted(settings, name, &server, stream, config).await?,
            }
        }
    };
    // The limit on the whole comes first, and says what it is.
    let patience = settings.connect_timeout.saturating_mul(2);
    let mut wire = Wire::new(stream, server, patience);
    let login = Login {
        settings,
        address,
        private,
    };
    log_in(&mut wire, &login).await?;
    Ok(wire)
}

/// Asks for TLS, and speaks it if the server does. `true`: it does.
async fn encrypted(
    settings: &ServerSettings,
    name: &str,
    server: &str,
    mut stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<(Box<dyn Stream>, bool), ReplicationError> {
    let gone = |source: io::Error| ReplicationError::Gone {
        server: server.to_owned(),
        during: "the request for TLS",
        source: Some(source),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(gone)?;
    // Exactly one byte: whatever somebody slipped in behind it is not TLS and fails the
    // handshake, instead of being taken for the server's first words (CVE-2021-23222).
    match stream.read_u8().await.map_err(gone)? {
        b'S' => {}
        b'N' if settings.ssl_mode == SslMode::Prefer => return Ok((Box::new(stream), false)),
        b'N' => {
            return Err(ReplicationError::NoTls {
                server: server.to_owned(),
            });
        }
        // An error from before authentication; libpq does not show such text either, since
        // nobody knows who wrote it (CVE-2024-10977).
        other => {
            return Err(ReplicationError::Protocol {
                server: server.to_owned(),
                what: format!("byte {other:#04x} to the request for TLS"),
                source: None,
            });
        }
    }
    let failed = |source| ReplicationError::Tls {
        server: server.to_owned(),
        source,
    };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(failed)?;
    Ok((Box::new(stream), true))
}

/// A dead peer is noticed while we wait for a checkpoint, and a firewall that forgets quiet
/// connections sees traffic.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&stream, 6)?;
    Ok(stream)
}
