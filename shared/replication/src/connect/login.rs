//! The startup message, and being let in.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret as _;

use crate::error::ReplicationError;
use crate::settings::{Address, ServerSettings};
use crate::wire::Wire;

/// Who wants in, and where.
pub(super) struct Login<'a> {
    pub(super) settings: &'a ServerSettings,
    pub(super) address: &'a Address,
    /// Nobody on the way can read along: TLS or a Unix-domain socket.
    pub(super) private: bool,
}

/// Makes `wire` a WAL sender that waits for its first command.
pub(super) async fn log_in(wire: &mut Wire, login: &Login<'_>) -> Result<(), ReplicationError> {
    let settings = login.settings;
    wire.send(|output| {
        // No database: physical replication has none, and pg_hba.conf says `replication`.
        let mut parameters = vec![
            ("user", settings.user.as_str()),
            ("replication", "true"),
            ("application_name", settings.application_name.as_str()),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
        ];
        parameters.extend(
            settings
                .options
                .as_deref()
                .map(|options| ("options", options)),
        );
        frontend::startup_message(parameters, output)
    })
    .await?;
    authenticate(wire, login).await?;
    loop {
        match answer(wire, login).await? {
            Message::BackendKeyData(_) => {}
            Message::ReadyForQuery(_) => return Ok(()),
            other => return Err(wire.unexpected(&other)),
        }
    }
}

async fn authenticate(wire: &mut Wire, login: &Login<'_>) -> Result<(), ReplicationError> {
    let user = login.settings.user.as_str();
    let method = |method| {
        Err(ReplicationError::Method {
            server: login.address.shown(),
            method,
        })
    };
    match answer(wire, login).await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationMd5Password(body) => {
            let password = password(login)?;
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), body.salt());
            wire.send(|output| frontend::password_message(hash.as_bytes(), output))
                .await?;
        }
        Message::AuthenticationCleartextPassword if login.private => {
            let password = password(login)?;
            wire.send(|output| frontend::password_message(password.as_bytes(), output))
                .await?;
        }
        Message::AuthenticationCleartextPassword => {
            return Err(ReplicationError::ClearText {
                server: login.address.shown(),
            });
        }
        Message::AuthenticationSasl(body) => scram(wire, login, &body).await?,
        Message::AuthenticationGss => return method("GSSAPI"),
        Message::AuthenticationSspi => return method("SSPI"),
        Message::AuthenticationKerberosV5 => return method("Kerberos"),
        Message::AuthenticationScmCredential => return method("SCM credentials"),
        other => return Err(wire.unexpected(&other)),
    }
    match answer(wire, login).await? {
        Message::AuthenticationOk => Ok(()),
        other => Err(wire.unexpected(&other)),
    }
}

/// SCRAM-SHA-256, without channel binding. Returns only when the server has shown that it
/// knows the password too.
async fn scram(
    wire: &mut Wire,
    login: &Login<'_>,
    offered: &AuthenticationSaslBody,
) -> Result<(), ReplicationError> {
    let known = offered
        .mechanisms()
        .any(|mechanism| Ok(mechanism == SCRAM_SHA_256))
        .map_err(|error| wire.protocol("malformed mechanisms", Some(error)))?;
    if !known {
        return Err(ReplicationError::Method {
            server: login.address.shown(),
            method: "SASL without SCRAM-SHA-256",
        });
    }
    let not_proven = |source| ReplicationError::NotProven {
        server: login.address.shown(),
        source,
    };
    let password = password(login)?;
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first = BytesMut::from(scram.message());
    wire.send(|output| frontend::sasl_initial_response(SCRAM_SHA_256, &first, output))
        .await?;
    match answer(wire, login).await? {
        Message::AuthenticationSaslContinue(body) => {
            scram.update(body.data()).map_err(not_proven)?;
        }
        other => return Err(wire.unexpected(&other)),
    }
    let proof = BytesMut::from(scram.message());
    wire.send(|output| frontend::sasl_response(&proof, output))
        .await?;
    match answer(wire, login).await? {
        Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(not_proven),
        other => Err(wire.unexpected(&other)),
    }
}

fn password<'a>(login: &Login<'a>) -> Result<&'a str, ReplicationError> {
    match &login.address.password {
        Some(password) => Ok(password.expose_secret()),
        None => Err(ReplicationError::NoPassword {
            server: login.address.shown(),
            user: login.settings.user.clone(),
            note: login.settings.passfile_note.clone(),
        }),
    }
}

/// The next message; an error of the server by what it means before one is let in.
async fn answer(wire: &mut Wire, login: &Login<'_>) -> Result<Message, ReplicationError> {
    let refusal = match wire.message().await? {
        Message::ErrorResponse(body) => wire.refusal(&body),
        message => return Ok(message),
    };
    let ReplicationError::Server {
        server,
        during,
        source,
    } = refusal
    else {
        return Err(refusal);
    };
    let user = login.settings.user.clone();
    Err(match source.code.as_str() {
        code if code.starts_with("28") => ReplicationError::Authentication {
            server,
            user,
            source,
        },
        "42501" => ReplicationError::NotPermitted {
            server,
            user,
            source,
        },
        "53300" => ReplicationError::NoSlots { server, source },
        "57P03" => ReplicationError::NotReady { server, source },
        _ => ReplicationError::Server {
            server,
            during,
            source,
        },
    })
}
