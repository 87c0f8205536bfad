//! Which headers pass (RFC 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    // A proxy's password is none of the engine's business, whichever proxy it was meant for (section 11.7.2).
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that vouch for the exact bytes of a body.
const BODY_DIGESTS: [HeaderName; 8] = [
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("signature"),
    HeaderName::from_static("signature-input"),
    header::ACCEPT_RANGES,
];

/// Removes what concerns one connection only: the fixed set, and what `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in &named {
            headers.remove(name);
        }
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // Where both are given the coding counts, and the length is not true (RFC 9112, section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_all(headers, &HOP_BY_HOP);
}

/// Removes those that are there. Few are: to look at each header is less than to ask for each name.
fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        for name in names {
            headers.remove(name);
        }
    }
}

/// How long a message's body is, if that was announced.
#[must_use]
pub fn body_bytes(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Makes a client's headers fit for the engine. `measured` answers must come uncompressed, to be read.
pub fn prepare_request(headers: &mut HeaderMap, host: &HeaderValue, measured: bool) {
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::HOST, host.clone());
    if measured {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Removes what is no longer true once the body is changed.
pub fn strip_body_digests(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    remove_all(headers, &BODY_DIGESTS);
}

/// Bytes that the headers take on the wire.
#[must_use]
pub fn wire_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_and_what_it_names_are_stripped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Secret"),
            ("connection", "x-other,,"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("host", "client"),
            ("authorization", "kept"),
            ("proxy-authorization", "1"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        prepare_request(&mut headers, &HeaderValue::from_static("engine:8000"), true);
        let mut left: Vec<_> =
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["accept-encoding: identity", "authorization: kept", "host: engine:8000"]);
    }
}
