//! `duress check`, `convert` and `generate` as a user meets them: exit codes, words, files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use duress_checkers::{generate, models};

fn duress(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_duress"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may have given up before it read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

const STALE: &str = "\
{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 0, :type :invoke, :f :write, :value 2}
{:process 0, :type :ok, :f :write, :value 2}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value 1}
";

/// (arguments, input, exit code, words on standard output or error).
#[test]
fn histories_are_judged_and_refused_in_words() {
    let fresh = STALE.replace(":value 1}\n", ":value 2}\n");
    let json =
        "[{\"type\":\"invoke\",\"process\":0,\"f\":\"acquire\"},{\"type\":\"ok\",\"process\":0,\"f\":\"acquire\"},
        {\"type\":\"invoke\",\"process\":1,\"f\":\"acquire\"},{\"type\":\"ok\",\"process\":1,\"f\":\"acquire\"}]";
    let dance = "{:process 0, :type :invoke, :f :dance, :value 1}\n{:process 0, :type :ok, :f :dance, :value 1}\n";
    let table: &[(&[&str], &str, i32, &[&str])] = &[
        (&["check", "-"], STALE, 1, &["INVALID", "register, because there are only reads and writes", "line 6"]),
        (&["check", "-", "--explain"], STALE, 1, &["process", "read → 1", "5–6", "|--"]),
        (&["check", "-"], &fresh, 0, &["VALID", "3 operations (3 ok, 0 failed, 0 indeterminate) by 2 processes"]),
        (&["check", "-", "--certify"], &fresh, 0, &["VALID"]),
        (
            &["check", "-", "--model", "register,cas-register"],
            STALE,
            1,
            &["invalid  register", "invalid  cas-register"],
        ),
        (&["check", "-", "--model", "nothing"], STALE, 255, &["no model \"nothing\"", "cas-register"]),
        (&["check", "-", "--model", "queue"], STALE, 2, &["UNKNOWN", "ine 1"]),
        (&["check", "-"], dance, 255, &["dance", "--model"]),
        (&["check", "-"], json, 1, &["mutex", "json"]),
        (
            &["check", "-"],
            "{:process 0, :type :invoke, :f :read}\n{:process 0}",
            255,
            &["standard input:2:1: the operation has no :type"],
        ),
        (&["check", "-", "--format", "json"], STALE, 255, &["standard input:1:2"]),
        (&["check", "-", "--format", "xml"], STALE, 255, &["porcupine"]),
        (&["check", "-", "--max-bytes", "10"], STALE, 255, &["longer than 10 bytes"]),
        (&["check", "/nowhere/at/all"], "", 255, &["can't read /nowhere/at/all"]),
        (&["check", "/"], "", 255, &["neither a run directory"]),
        (&["check"], "", 255, &["PATH"]),
        (&["check", "--list-models"], "", 0, &["cas-register", "queue"]),
        (&["list", "models"], "", 0, &["cas-register"]),
        (
            &["convert", "-", "-", "--to", "json"],
            STALE,
            0,
            &["{\"index\":0,\"type\":\"invoke\",\"process\":0,\"f\":\"write\",\"value\":1}"],
        ),
        (&["convert", "-", "-"], STALE, 255, &["--to"]),
        (&["generate", "--model", "nothing"], "", 255, &["cas-register"]),
        (&["generate", "--anomaly", "nothing"], "", 255, &["stale-read"]),
        (&["generate", "--indeterminate", "101%"], "", 255, &["0% to 100%"]),
    ];
    for (args, input, code, words) in table {
        let output = duress(args, input.as_bytes());
        let said = out(&output) + &err(&output);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
        }
    }
}

#[test]
fn stores_compressed_files_and_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store/etcd/20261121");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("history.edn"), STALE).unwrap();
    std::os::unix::fs::symlink("20261121", directory.path().join("store/etcd/latest")).unwrap();
    let page = directory.path().join("page.html");
    for path in [store.clone(), directory.path().join("store/etcd")] {
        let output = duress(&["check", path.to_str().unwrap(), "--json", "--html", page.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["results"]["verdict"], "invalid");
        assert_eq!(json["history"]["format"], "edn");
        assert_eq!(json["history"]["counts"]["operations"], 3);
        assert_eq!(json["models"][0]["model"], "register");
        assert!(json["cores"][0].as_array().unwrap().iter().any(|o| o["completed_line"] == 6), "{json:#}");
        let html = std::fs::read_to_string(&page).unwrap();
        assert!(html.contains("<svg") && html.contains("line 6") && !html.contains("<script"), "{html}");
    }
    let compressed = root().join("harness/history/tests/formats/valid/plain.edn.gz");
    let output = duress(&["check", compressed.to_str().unwrap(), "--model", "register"], b"");
    assert!(out(&output).contains("2 operations"), "{}", out(&output));
}

#[test]
fn converting_keeps_verdicts_or_says_what_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (json, text) = (directory.path().join("h.json"), directory.path().join("h.txt"));
    let (json, text) = (json.to_str().unwrap(), text.to_str().unwrap());
    assert!(duress(&["convert", "-", json], STALE.as_bytes()).status.success());
    assert!(duress(&["convert", json, text], b"").status.success());
    for path in [json, text] {
        assert_eq!(duress(&["check", path], b"").status.code(), Some(1), "{path}");
    }
    let log = root().join("harness/history/tests/formats/valid/etcd.log");
    let edn = directory.path().join("h.edn");
    let (log, file) = (log.to_str().unwrap(), edn.to_str().unwrap());
    let refused = duress(&["convert", log, file], b"");
    assert_eq!((refused.status.code(), edn.exists()), (Some(255), false));
    assert!(err(&refused).contains("--failed assert") && err(&refused).contains("--lossy"), "{}", err(&refused));
    assert!(duress(&["convert", log, file, "--lossy"], b"").status.success());
    assert!(edn.exists());
}

#[test]
fn generated_histories_are_judged_as_their_label_says() {
    for model in generate::models() {
        let anomalies = generate::anomalies(model).unwrap().iter().map(|(name, _)| Some(*name));
        for anomaly in std::iter::once(None).chain(anomalies) {
            let mut args = vec!["generate", "--model", model, "--ops", "40", "--seed", "5", "--format", "json"];
            args.extend(anomaly.map(|name| ["--anomaly", name]).into_iter().flatten());
            let made = duress(&args, b"");
            let label = err(&made);
            assert!(made.status.success() && label.contains("seed 5"), "{model} {anomaly:?}: {label}");
            assert_eq!(made.stdout, duress(&args, b"").stdout, "{model} {anomaly:?}: the same seed, other bytes");
            let checked = duress(&["check", "-", "--model", model], &made.stdout);
            let code = checked.status.code();
            let expected: &[i32] = match label.split([',', ':']).next().unwrap() {
                "valid" => &[0],
                "invalid" => &[1],
                _ => &[0, 1],
            };
            assert!(expected.contains(&code.unwrap()), "{model} {anomaly:?} {label}: {code:?} {}", out(&checked));
        }
    }
}

/// The list of models in the documentation is the program's. `UPDATE_DOCS=1` writes it.
#[test]
fn documented_models_are_those_there_are() {
    let path = root().join("docs/checking.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- models -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /models -->").unwrap();
    let mut table = String::from("| `--model` | what it knows |\n|---|---|\n");
    for model in models::ALL {
        table.push_str(&format!("| `{}` | {} |\n", model.name(), model.about().replace('|', "\\|")));
    }
    let fresh = format!("{before}<!-- models -->\n{table}<!-- /models -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    } else {
        assert!(text == fresh, "docs/checking.md is out of date: UPDATE_DOCS=1 cargo test -p duress-cli --test check");
    }
}
