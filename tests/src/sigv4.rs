//! AWS Signature Version 4, written for the tests alone: the proxy that stores
//! a flipped byte has to sign what it sends, and buckets have to be made. That
//! it is not the product's signer is the point.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method};
use sha2::{Digest, Sha256};

/// An access key and its secret.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The access key id.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The region that is signed for.
    pub region: String,
}

impl Credentials {
    /// Signs a request anew: sets `x-amz-date`, `x-amz-content-sha256` and
    /// `authorization` over every header that is signed as a rule (`host`,
    /// `content-md5`, `content-type`, `x-amz-*`).
    pub fn sign(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) {
        let day = now.format("%Y%m%d").to_string();
        let moment = now.format("%Y%m%dT%H%M%SZ").to_string();
        let body_hash = hex::encode(Sha256::digest(body));
        set(headers, "x-amz-date", &moment);
        set(headers, "x-amz-content-sha256", &body_hash);
        headers.remove("authorization");

        let mut signed: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| {
                let name = name.as_str();
                name.starts_with("x-amz-")
                    || ["host", "content-md5", "content-type"].contains(&name)
            })
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default().trim()))
            .collect();
        signed.sort_unstable();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let mut parameters: Vec<String> = query
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| match parameter.contains('=') {
                true => parameter.to_owned(),
                false => format!("{parameter}="),
            })
            .collect();
        parameters.sort_unstable();

        let request = format!(
            "{method}\n{path}\n{}\n{lines}\n{names}\n{body_hash}",
            parameters.join("&")
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
            hex::encode(Sha256::digest(&request))
        );
        let mut key = hmac(format!("AWS4{}", self.secret).as_bytes(), day.as_bytes());
        for part in [self.region.as_str(), "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
        set(
            headers,
            "authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
                self.id
            ),
        );
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("printable ASCII"));
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::hmac;

    #[test]
    fn hmac_gives_the_digest_of_rfc_4231_case_2() {
        assert_eq!(
            hex::encode(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
