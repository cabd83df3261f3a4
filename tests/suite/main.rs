//! Everything that crosses a room or a program: flows, routes, real clients, crashes, and the rules of the house.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::duplicate_mod, reason = "the flows run on each store")]

mod authorizer;
mod aws_store;
mod crash;
mod faults;
mod faults_at_sts;
mod faults_on_disk;
mod gateway;
mod helper;
mod kills;
mod lambda;
mod moto;
mod on_aws;
mod on_embedded;
mod routes;
mod server;
mod tidy;
