//! What spans modules: the properties that the fuzz targets check too, their corpus, and the recorded streams.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in a test a panic is the report

mod assembled;
mod checks;
mod corpus;
mod engines;
mod proxy;
mod recorded;
mod sse;
mod streams;
mod twins;

/// Streams are cut at every offset; under Miri, which takes a hundred times as long, at some.
const CUT_STEP: usize = if cfg!(miri) { 211 } else { 1 };
