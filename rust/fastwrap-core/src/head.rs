//! Which requests are passed on: those that nobody can read in two ways (RFC 9112, sections 3.2 and 6.1).

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Version, request};

/// Longest method; those that are registered have 17 at most.
const MAX_METHOD_BYTES: usize = 32;

/// Whether a request names a path and no server, one host, and no coding but the one that frames its body.
#[must_use]
pub fn is_acceptable(head: &request::Parts) -> bool {
    is_origin_form(head) && has_one_host(head) && is_framed_plainly(head)
}

fn is_origin_form(head: &request::Parts) -> bool {
    head.method != Method::CONNECT
        && head.method.as_str().len() <= MAX_METHOD_BYTES
        && head.uri.authority().is_none()
        && head.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/'))
}

/// HTTP/1.0 knows no `Host`; some servers make an empty one of that.
fn has_one_host(head: &request::Parts) -> bool {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            is_host(host) || (host.is_empty() && head.version == Version::HTTP_10)
        }
        (None, _) => head.version == Version::HTTP_10,
        _ => false,
    }
}

fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else {
        return false;
    };
    // A user would stand before the host.
    let port = authority
        .as_str()
        .strip_prefix(authority.host())
        .map(|port| port.strip_prefix(':').unwrap_or(port));
    !authority.host().is_empty()
        && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `chunked` ends at the hop; the engine would not know of any other coding.
fn is_framed_plainly(head: &request::Parts) -> bool {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn is_good_host(host: &str) -> bool {
        is_acceptable(&head("/a", &[("host", host)]))
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for host in ["a", "a:80", "a:", "my_engine:8000", "127.0.0.1", "[::1]", "[::1]:80"] {
            assert!(is_good_host(host), "{host}");
        }
        for host in
            ["", ":80", "a:b", "a:+1", "u@a", "a/b", "a b", "[::1", "::1", "http://a", "a\\b"]
        {
            assert!(!is_good_host(host), "{host}");
        }
    }

    #[test]
    fn only_http_1_0_may_lack_it() {
        for (version, wanted) in [(Version::HTTP_11, false), (Version::HTTP_10, true)] {
            for headers in [&[][..], &[("host", "")]] {
                let mut head = head("/a", headers);
                head.version = version;
                assert_eq!(is_acceptable(&head), wanted, "{version:?} {headers:?}");
            }
        }
        let mut twice = head("/a", &[("host", "a"), ("host", "a")]);
        twice.version = Version::HTTP_10;
        assert!(!is_acceptable(&twice));
    }

    #[test]
    fn targets_and_codings() {
        let host = ("host", "a");
        for target in ["http://a/b", "a:80", "*"] {
            assert!(!is_acceptable(&head(target, &[host])), "{target}");
        }
        for (coding, wanted) in [("chunked", true), ("Chunked", true), ("gzip, chunked", false)] {
            let head = head("/a", &[host, ("transfer-encoding", coding)]);
            assert_eq!(is_acceptable(&head), wanted, "{coding}");
        }
        let chunked = ("transfer-encoding", "chunked");
        assert!(!is_acceptable(&head("/a", &[host, chunked, chunked])));
    }
}
