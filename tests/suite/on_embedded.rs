//! The flows on the embedded store.

use stile_tests::test_broker::Backend;

const BACKEND: Backend = Backend::Embedded;

#[path = "bearer.rs"]
mod bearer;
#[path = "exchange.rs"]
mod exchange;
#[path = "modules.rs"]
mod modules;
#[path = "store.rs"]
mod store;
#[path = "terraform.rs"]
mod terraform;
