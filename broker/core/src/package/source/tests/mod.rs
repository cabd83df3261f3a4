//! Tables of sources, objects, and of what is allowed.

mod allowed;
mod module_source;
mod objects;
