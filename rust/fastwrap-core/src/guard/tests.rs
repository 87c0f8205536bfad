use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY};

use super::*;

fn guarded(keys: &[&str]) -> Guard {
    let guard = Guard::default();
    guard.set_keys(Keys::new(keys).unwrap());
    guard
}

fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let value = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
    pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn one_key_lets_in_and_nothing_else_does() {
    let guard = guarded(&["first", "second-0123456789"]);
    for (admitted, pairs) in [
        (true, &[("authorization", &b"Bearer first"[..])][..]),
        (true, &[("authorization", b"bearer second-0123456789")]),
        (true, &[("authorization", b"BEARER  first  ")]),
        (true, &[("x-api-key", b"first")]),
        (true, &[("x-api-key", b" first ")]),
        (true, &[("authorization", b"Basic abc"), ("x-api-key", b"first")]),
        (true, &[("authorization", b"Bearer first"), ("x-api-key", b"other")]),
        (false, &[]),
        (false, &[("authorization", b"")]),
        (false, &[("authorization", b"Bearer")]),
        (false, &[("authorization", b"Bearer ")]),
        (false, &[("authorization", b"Bearerfirst")]),
        (false, &[("authorization", b"first")]),
        (false, &[("authorization", b"Basic first")]),
        (false, &[("authorization", b"Bearer firs")]),
        (false, &[("authorization", b"Bearer firstt")]),
        (false, &[("authorization", b"Bearer First")]),
        (false, &[("authorization", b"Bearer first, Bearer first")]),
        (false, &[("authorization", b"Bearer first second-0123456789")]),
        (false, &[("authorization", "Bearer fïrst".as_bytes())]),
        (false, &[("authorization", b"\xff\xff\xff\xff\xff\xff\xff\xff")]),
        (false, &[("authorization", b"Bearer first"), ("authorization", b"Bearer first")]),
        (false, &[("x-api-key", b"")]),
        (false, &[("x-api-key", b"first"), ("x-api-key", b"first")]),
        (false, &[("x-api-key", b"Bearer first")]),
        (false, &[("proxy-authorization", b"Bearer first")]),
    ] {
        let mut headers = headers(pairs);
        assert_eq!(guard.admits(&mut headers), admitted, "{pairs:?}");
        assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"));
    }
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn without_keys_nobody_is_let_in_and_without_a_set_everybody() {
    let given = || headers(&[("authorization", b"Bearer ")]);
    assert!(!guarded(&[]).admits(&mut given()));
    let mut kept = given();
    assert!(Guard::default().admits(&mut kept));
    assert_eq!(kept, given());
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn new_keys_take_the_place_of_old_ones() {
    let guard = guarded(&["old"]);
    guard.set_keys(Keys::new(["new"]).unwrap());
    assert!(!guard.admits(&mut headers(&[("x-api-key", b"old")])));
    assert!(guard.admits(&mut headers(&[("x-api-key", b"new")])));
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn the_engine_gets_its_own_key_once() {
    let guard = guarded(&["client"]);
    guard.set_engine_key("first").unwrap();
    guard.set_engine_key("second").unwrap();
    assert!(guard.set_engine_key("a\nb").is_err());
    let mut sent = headers(&[("authorization", b"Bearer a"), ("authorization", b"Bearer b")]);
    guard.authorize(&mut sent);
    assert_eq!(sent, headers(&[("authorization", b"Bearer second")]));
    let mut kept = headers(&[("authorization", b"Bearer a")]);
    Guard::default().authorize(&mut kept);
    assert_eq!(kept, headers(&[("authorization", b"Bearer a")]));
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn no_key_is_shown() {
    let guard = guarded(&["client-key"]);
    guard.set_engine_key("engine-key").unwrap();
    let keys = Keys::new(["client-key"]).unwrap();
    let mut sent = HeaderMap::new();
    guard.authorize(&mut sent);
    let shown = format!("{guard:?} {keys:?} {sent:?}");
    assert!(!shown.contains("client-key") && !shown.contains("engine-key"), "{shown}");
}

#[test]
#[cfg_attr(miri, ignore = "ring is assembly")]
fn an_own_route_is_open_or_wants_a_key() {
    let guard = guarded(&["k"]);
    guard.set_cors("https://a.example".parse().unwrap());
    let page = || headers(&[("origin", b"https://a.example")]);
    assert!(guard.own(&Method::GET, &mut page(), true).unwrap().is_some());
    let refusal = guard.own(&Method::GET, &mut page(), false).unwrap_err();
    assert_eq!(refusal.status(), 401);
    assert_eq!(refusal.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
    let mut asked = page();
    asked.insert("access-control-request-method", HeaderValue::from_static("GET"));
    assert_eq!(guard.own(&Method::OPTIONS, &mut asked, false).unwrap_err().status(), 204);
}

#[test]
fn origins_are_as_browsers_write_them() {
    for good in [
        "*",
        " * ",
        "https://a.example",
        "https://a.example, http://localhost:3000",
        "http://[::1]:8080",
        "https://a.example:80",
        "chrome-extension://abcdef",
        "https://xn--bcher-kva.example",
    ] {
        assert!(good.parse::<Cors>().is_ok(), "{good}");
    }
    for (bad, why) in [
        ("", "missing"),
        ("https://a.example,", "missing"),
        ("https://a.example,*", "alone"),
        ("a.example", "no scheme"),
        ("null", "no scheme"),
        ("https://a.example/", "slash at its end"),
        ("https://a.example/x", "path"),
        ("https://a.example?x", "path"),
        ("https://u@a.example", "user"),
        ("https://A.example", "lower case"),
        ("HTTPS://a.example", "lower case"),
        ("https://a.example:443", "port"),
        ("http://a.example:80", "port"),
        ("https://bücher.example", "no origin"),
        ("https://*.example", "pattern"),
        ("https://", "no origin"),
        ("https://a example", "no origin"),
    ] {
        let error = bad.parse::<Cors>().unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

/// What an answer's headers are to a page of `origin`.
fn told(
    origins: &str,
    origin: Option<&'static str>,
    engine: &[(&'static str, &[u8])],
) -> HeaderMap {
    let cors: Cors = origins.parse().unwrap();
    let asked: HeaderMap = origin
        .map(|origin| (http::header::ORIGIN, HeaderValue::from_static(origin)))
        .into_iter()
        .collect();
    let mut answer = headers(engine);
    cors.grant(&asked).apply(&mut answer);
    answer
}

#[test]
fn only_pages_of_the_list_may_read() {
    const LIST: &str = "https://a.example,https://b.example";
    let read = told(LIST, Some("https://b.example"), &[]);
    assert_eq!(read[ACCESS_CONTROL_ALLOW_ORIGIN], "https://b.example");
    assert_eq!(read[ACCESS_CONTROL_EXPOSE_HEADERS], "X-Performance-Metrics, Server-Timing");
    for origin in [None, Some("https://c.example"), Some("https://b.example.c"), Some("null")] {
        let read = told(LIST, origin, &[]);
        assert_eq!(read.keys().collect::<Vec<_>>(), [&VARY], "{origin:?}");
    }
    let any = told("*", None, &[]);
    assert_eq!(any[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(!any.contains_key(VARY));
}

#[test]
fn what_the_engine_says_of_it_is_not_doubled_and_gives_no_more() {
    let engine = [
        ("access-control-allow-origin", &b"*"[..]),
        ("access-control-allow-credentials", b"true"),
        ("access-control-expose-headers", b"X-Request-Id"),
        ("vary", b"Accept, origin"),
    ];
    let read = told("https://a.example", Some("https://a.example"), &engine);
    let all = |name| read.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(all("access-control-expose-headers").len(), 2);
    assert_eq!(all("vary"), ["Accept, origin"]);
    assert!(!read.contains_key("access-control-allow-credentials"));
    let other = told("https://a.example", Some("https://c.example"), &engine);
    assert!(!other.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
}
