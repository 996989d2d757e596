//! The reference of targets and workloads is what they declare.

use std::path::Path;

use duress_plug::{Plugs, docs};

#[test]
fn the_reference_is_what_the_plugs_declare() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let written = std::fs::read_to_string(&file).unwrap();
    let plugs = Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() };
    let fresh = docs::filled(&written, "plugs", &docs::reference(&plugs)).expect("the marks of the generated part");
    if std::env::var_os("DURESS_WRITE_DOCS").is_some() {
        std::fs::write(&file, fresh).unwrap();
        return;
    }
    assert!(written == fresh, "docs/reference.md is not fresh: run this test with DURESS_WRITE_DOCS=1");
}
