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
