//! Every file of `tests/malformed/` is refused, with an error that helps. The snapshot is the
//! place to judge the errors' words.

use std::fmt::Write as _;
use std::path::Path;

use duress_plug::Plugs;
use duress_scenario::Scenario;

#[test]
fn malformed_files_are_refused_with_clear_errors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder of malformed scenarios is there")
        .map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 50, "only {} malformed scenarios", names.len());
    let plugs = Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() };
    let mut all = String::new();
    for name in &names {
        let bytes = std::fs::read(folder.join(name)).expect("a readable file");
        match Scenario::parse_bytes(&bytes, name, &[], &plugs) {
            Ok(scenario) => panic!("{name} is accepted: {scenario:?}"),
            Err(error) => {
                assert!(error.message.len() < 300, "{name}: the message is too long");
                writeln!(all, "{error}\n").expect("strings take everything");
            }
        }
    }
    insta::assert_snapshot!(all);
}
