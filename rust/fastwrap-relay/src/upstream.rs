//! The engine's address.

use std::fmt;
use std::path::PathBuf;

use http::{HeaderValue, Uri};

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError(String);

impl fmt::Display for UpstreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UpstreamError {}

/// How the engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port; `tls` for `https://`.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A Unix-domain socket.
    Unix(PathBuf),
}

/// The one origin that is ever contacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// How it is reached.
    pub address: Address,
    /// What stands before every path, without a slash at the end; mostly empty.
    pub prefix: String,
    /// The `Host` header.
    pub host: HeaderValue,
}

impl Upstream {
    /// Reads `http://host:port`, `https://host`, or `unix:/path/to.sock`.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse(text: &str) -> Result<Self, UpstreamError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path.trim_start_matches("//"));
        }
        let bad = |why: &str| UpstreamError(format!("{text:?} is no engine's address: {why}"));
        let example = "use http://HOST:PORT, https://HOST or unix:/PATH";
        let uri: Uri = text.parse().map_err(|_| bad(example))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad(example)),
        };
        let authority = uri.authority().ok_or_else(|| bad(example))?;
        if authority.as_str().contains('@') {
            return Err(bad(
                "user and password do not belong there; clients send their own Authorization",
            ));
        }
        if uri.query().is_some() {
            return Err(bad("a query does not belong there"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("") => Some(if tls { 443 } else { 80 }),
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()),
        };
        let port = port.filter(|port| *port > 0).ok_or_else(|| bad("a port is 1 to 65535"))?;
        Ok(Self {
            address: Address::Tcp { host, port, tls },
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| bad(example))?,
        })
    }

    fn unix(path: &str) -> Result<Self, UpstreamError> {
        if !path.starts_with('/') {
            return Err(UpstreamError(format!(
                "unix:{path} needs an absolute path: unix:/run/engine.sock"
            )));
        }
        Ok(Self {
            address: Address::Unix(PathBuf::from(path)),
            prefix: String::new(),
            host: HeaderValue::from_static("localhost"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = Upstream::parse("http://127.0.0.1:8000/").unwrap();
        assert_eq!(tcp.address, Address::Tcp { host: "127.0.0.1".into(), port: 8000, tls: false });
        assert_eq!((tcp.prefix.as_str(), tcp.host.to_str().unwrap()), ("", "127.0.0.1:8000"));
        let tls = Upstream::parse("https://[::1]/base/").unwrap();
        assert_eq!(tls.address, Address::Tcp { host: "::1".into(), port: 443, tls: true });
        assert_eq!((tls.prefix.as_str(), tls.host.to_str().unwrap()), ("/base", "[::1]"));
        for text in ["unix:/run/e.sock", "unix:///run/e.sock"] {
            assert_eq!(Upstream::parse(text).unwrap().address, Address::Unix("/run/e.sock".into()));
        }
    }

    #[test]
    fn what_is_no_address_is_said() {
        for text in [
            "",
            "localhost:8000",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h/?q",
            "unix:e.sock",
            "http://h:0",
            "http://h:99999",
            "http://h:x",
        ] {
            let error = Upstream::parse(text).unwrap_err().to_string();
            assert!(!error.is_empty(), "{text}");
        }
    }
}
