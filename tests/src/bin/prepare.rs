//! Downloads the Python environments and the packages that tests need. Without it, the first test
//! that needs one downloads it.

use stile_tests::aws::moto::Moto;
use stile_tests::process::{node, schemathesis};
use stile_tests::terraform::{release, scanners};

fn main() {
    // A test reports what is missing.
    let _ = Moto::python();
    let _ = node::packages();
    for release in release::RELEASES {
        let _ = release::python(release);
    }
    let _ = scanners::checkov();
    let _ = scanners::trivy();
    let _ = schemathesis::installed();
}
