/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// TLS when the server offers it, whoever the server is. Also for `allow`.
    Prefer,
    /// TLS or nothing, whoever the server is.
    Require,
    /// The certificate comes from a known authority.
    VerifyCa,
    /// ... and was issued for this host.
    VerifyFull,
}

impl SslMode {
    /// Of `sslmode`'s value, libpq's default without one. As libpq does it, a `sslrootcert` makes
    /// `require` check the chain. `None`: there is no such mode.
    #[must_use]
    pub fn parse(value: Option<&str>, has_authority: bool) -> Option<Self> {
        Some(match value {
            None | Some("prefer" | "allow") => Self::Prefer,
            Some("disable") => Self::Disable,
            Some("require") if has_authority => Self::VerifyCa,
            Some("require") => Self::Require,
            Some("verify-ca") => Self::VerifyCa,
            Some("verify-full") => Self::VerifyFull,
            Some(_) => return None,
        })
    }
}
