//! Replays the fuzz targets' corpus, so that whatever was found once is looked at by every `cargo test`.

use std::path::Path;

use crate::checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no corpus in {}", folder.display());
}

#[test]
fn assemble() {
    replay("assemble", checks::assemble::check);
}

#[test]
fn sse() {
    replay("sse", checks::sse::check);
}

#[test]
fn event() {
    replay("event", checks::event::check);
}

#[test]
fn splice() {
    replay("splice", checks::splice::check);
}

#[test]
fn request() {
    replay("request", checks::request::check);
}

#[test]
fn stream() {
    replay("stream", checks::stream::check);
}
