//! Where a target listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;

use crate::error::BenchError;

/// One way to the engine.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the report.
    pub name: String,
    /// Its URL, as it was given.
    pub url: String,
    /// The process whose tree's CPU time and memory are reported.
    pub pid: Option<u32>,
    pub(crate) place: Place,
    /// What the URL's path puts before every request's.
    pub(crate) prefix: String,
    /// The value of the header `host`.
    pub(crate) host: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What is connected to, looked up.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl Target {
    /// Reads a target's URL: `http://HOST:PORT`, with a path or without, or `unix:/PATH`.
    ///
    /// # Errors
    /// If it is neither; says what would be.
    pub fn new(name: &str, url: &str, pid: Option<u32>) -> Result<Self, BenchError> {
        let bad = |problem: &str| {
            let name = name.to_owned();
            Err(BenchError::Target { name, problem: format!("{url:?} {problem}") })
        };
        let (place, prefix, host) = if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return bad("is no path of a socket: write unix:/run/engine.sock");
            }
            (Place::Unix(path.into()), String::new(), "localhost".to_owned())
        } else {
            let Ok(uri) = url.parse::<Uri>() else {
                return bad("is no URL: write http://127.0.0.1:8000 or unix:/run/engine.sock");
            };
            if uri.scheme_str() == Some("https") {
                return bad(
                    "is encrypted, and TLS would be measured with it: give an address of plain http",
                );
            }
            let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return bad("is no http URL: write http://127.0.0.1:8000");
            };
            let place = Place::Tcp {
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port: authority.port_u16().unwrap_or(80),
            };
            (place, uri.path().trim_end_matches('/').to_owned(), authority.to_string())
        };
        Ok(Self { name: name.to_owned(), url: url.to_owned(), pid, place, prefix, host })
    }

    /// Looks its host up, once.
    pub(crate) async fn resolve(&self) -> std::io::Result<Address> {
        match &self.place {
            Place::Unix(path) => Ok(Address::Unix(path.clone())),
            Place::Tcp { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
                Ok(Address::Tcp(found.collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::new("a", "http://localhost:81/prefix/", None).unwrap();
        assert_eq!(target.place, Place::Tcp { host: "localhost".to_owned(), port: 81 });
        assert_eq!((target.prefix.as_str(), target.host.as_str()), ("/prefix", "localhost:81"));
        let target = Target::new("a", "http://[::1]", None).unwrap();
        assert_eq!(target.place, Place::Tcp { host: "::1".to_owned(), port: 80 });
        let target = Target::new("a", "unix:/run/a.sock", None).unwrap();
        assert_eq!(target.place, Place::Unix("/run/a.sock".into()));
    }

    #[test]
    fn what_cannot_be_driven_says_what_can() {
        for url in ["https://a", "a:80", "http://", "unix:a.sock", "ftp://a", ""] {
            let error = Target::new("name", url, None).unwrap_err().to_string();
            assert!(error.starts_with("name: "), "{error}");
        }
    }
}
