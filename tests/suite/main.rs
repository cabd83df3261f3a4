//! Everything that crosses a room or a program: flows, routes, real clients, crashes, and the rules of the house.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authorizer;
mod bearer;
mod crash;
mod exchange;
mod gateway;
mod helper;
mod lambda;
mod modules;
mod moto;
mod routes;
mod server;
mod terraform;
mod tidy;
