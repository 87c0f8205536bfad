//! Slow and plain versions of what the core does fast; tests and fuzz targets compare the two.

pub(crate) mod assemble;
pub(crate) mod event;
pub(crate) mod sse;
