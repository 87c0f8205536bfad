//! Keys and pages of other origins, as a request meets them.

use super::*;
use crate::guard::Keys;

#[test]
fn who_has_no_key_is_refused_and_counted() {
    let meter = meter("body");
    meter.guard.set_keys(Keys::new(["good"]).unwrap());
    let with = |pairs: &[_]| begin(&meter, CHAT, pairs);
    for pairs in [&[][..], &[("x-api-key", "bad")], &[("content-length", "101")]] {
        let refusal = with(pairs).unwrap_err();
        assert_eq!(refusal.status(), 401, "{pairs:?}");
        assert_eq!(refusal.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(outcomes(&meter, CHAT), [0, 3, 0, 0]);
    assert_eq!(
        with(&[("x-api-key", "good"), ("content-length", "101")]).unwrap_err().status(),
        413
    );
    assert!(with(&[("authorization", "Bearer good")]).is_ok());
}

#[test]
fn the_engine_gets_its_key_whatever_a_client_sends() {
    let meter = meter("body");
    meter.guard.set_keys(Keys::new(["good"]).unwrap());
    meter.guard.set_engine_key("engine's").unwrap();
    let mut request = headers(&[
        ("authorization", "Bearer good"),
        ("x-api-key", "good"),
        ("connection", "authorization"),
    ]);
    let exchange = Exchange::begin(&meter, &Method::POST, CHAT, &mut request, MS).unwrap();
    exchange.prepare(&mut request, &HeaderValue::from_static("engine"));
    let wanted =
        [("host", "engine"), ("accept-encoding", "identity"), ("authorization", "Bearer engine's")];
    assert_eq!(request, headers(&wanted));
}

#[test]
fn a_page_is_told_by_every_answer_whether_it_may_read() {
    let meter = meter("body");
    meter.guard.set_cors("https://a.example".parse().unwrap());
    meter.guard.set_keys(Keys::new(["good"]).unwrap());
    let page = ("origin", "https://a.example");
    let may_read = |headers: &HeaderMap| headers["access-control-allow-origin"] == page.1;
    assert!(may_read(begin(&meter, CHAT, &[page]).unwrap_err().headers()));
    let mut exchange = begin(&meter, CHAT, &[page, ("x-api-key", "good")]).unwrap();
    let mut response = headers(&[("content-type", "application/json")]);
    exchange.response(StatusCode::OK, &mut response);
    assert!(may_read(&response));
    assert!(may_read(exchange.refuse(Fault::EngineClosed, 2 * MS).headers()));
}

#[test]
fn what_a_browser_asks_beforehand_is_answered_without_a_key_and_without_the_engine() {
    let meter = meter("body");
    meter.guard.set_cors("https://a.example".parse().unwrap());
    meter.guard.set_keys(Keys::new(["good"]).unwrap());
    let ask = |method: Method, pairs: &[_]| {
        Exchange::begin(&meter, &method, CHAT, &mut headers(pairs), MS).unwrap_err()
    };
    let (page, wanted) =
        (("origin", "https://a.example"), ("access-control-request-method", "POST"));
    let names = ("access-control-request-headers", "authorization,x-stainless-os");
    let preflight = ask(Method::OPTIONS, &[page, wanted, names]);
    assert_eq!((preflight.status(), preflight.body().len()), (StatusCode::NO_CONTENT, 0));
    let granted = headers(&[
        ("vary", "Origin"),
        ("access-control-allow-origin", page.1),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", names.1),
        ("access-control-max-age", "600"),
    ]);
    assert_eq!(*preflight.headers(), granted);
    let other = ask(Method::OPTIONS, &[("origin", "https://b.example"), wanted]);
    assert_eq!((other.status(), other.headers().len()), (StatusCode::NO_CONTENT, 1));
    assert_eq!(outcomes(&meter, "/v1/models"), [2, 0, 0, 0], "as complete, of no measured route");
    for (method, pairs) in [
        (Method::POST, &[page, wanted][..]),
        (Method::OPTIONS, &[page]),
        (Method::OPTIONS, &[wanted]),
    ] {
        assert_eq!(ask(method, pairs).status(), 401, "{pairs:?}");
    }
}
