//! Tests that cross modules or programs: flows, routes, real clients, crashes, and rules for the
//! source.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue fails")]
#![expect(clippy::duplicate_mod, reason = "the flows run on each store")]

mod admin_on_aws;
mod archive_headers;
mod attacks;
mod audit;
mod authorizer;
mod aws_links;
mod aws_lists;
mod aws_store;
mod aws_upload_urls;
mod aws_uploads;
mod certificate;
mod crash;
mod data_folder;
mod direction;
mod disk_reserve;
mod examples;
mod faults;
mod faults_at_sts;
mod faults_flows;
mod faults_in_part;
mod faults_on_disk;
mod faults_on_full_disk;
mod flood;
mod formats;
mod function;
mod gateway;
mod helper;
mod host;
mod infra;
mod kills;
mod kills_aim;
mod kills_clients;
mod kms_away;
mod lambda;
mod moto;
mod on_aws;
mod on_embedded;
mod options;
mod processes;
mod rotation;
mod server;
mod tidy;
mod upload_rooms;
