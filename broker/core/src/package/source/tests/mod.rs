//! Tables of sources and of allowed sources.

mod allowed;
mod module_source;
