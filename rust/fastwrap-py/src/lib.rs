//! `fastwrap._native`: functions here convert, call the other crates, and convert back.
//!
//! Its Python face is written down in `python/fastwrap/_native.pyi`, where the docstrings live.

mod bell;
mod bench;
mod cells;
mod convert;
mod edges;
mod engine;
mod exchange;
mod gpu;
mod hooks;
mod measured;
mod meter;
mod observed;
mod panics;
mod reactor;
mod relay;
mod samples;
mod server;
mod task;

use pyo3::panic::PanicException;
use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<edges::Edges>()?;
    module.add_class::<exchange::Exchange>()?;
    module.add_class::<hooks::HookQueue>()?;
    module.add_class::<measured::Measured>()?;
    module.add_class::<gpu::GpuLog>()?;
    module.add_class::<meter::Meter>()?;
    module.add_class::<observed::Observed>()?;
    module.add_class::<relay::Relay>()?;
    module.add_class::<samples::Samples>()?;
    module.add_class::<server::Reply>()?;
    module.add_class::<server::Server>()?;
    panics::report_places();
    module.add("AnswerAborted", module.py().get_type::<exchange::AnswerAborted>())?;
    module.add("Panic", module.py().get_type::<PanicException>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(bench::bench_metrics, module)?)?;
    module.add_function(wrap_pyfunction!(bench::run_bench, module)?)?;
    module.add_function(wrap_pyfunction!(engine::serve_engine, module)?)?;
    module.add_function(wrap_pyfunction!(relay::check_certificate, module)?)?;
    module.add_function(wrap_pyfunction!(meter::check_origins, module)?)?;
    module.add_function(wrap_pyfunction!(hooks::model_of, module)?)?;
    module.add_function(wrap_pyfunction!(meter::now_ns, module)?)?;
    module.add_function(wrap_pyfunction!(measured::is_request_acceptable, module)?)?;
    module.add_function(wrap_pyfunction!(measured::refusal, module)?)?;
    module.add_function(wrap_pyfunction!(relay::check_upstream, module)?)
}
