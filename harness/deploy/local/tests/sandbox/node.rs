//! What the cases run on hosts.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

pub(crate) fn main(what: &str) -> ExitCode {
    match what {
        "describe" => describe(),
        "spin" => spin(),
        "hungry" => hungry(),
        "with_orphan" => with_orphan(),
        "sleep" => loop {
            thread::park();
        },
        other => panic!("no such node: {other}"),
    }
}

/// Answers questions on the control channel until that closes.
#[expect(unsafe_code, reason = "the control channel is inherited as a bare number")]
fn describe() -> ExitCode {
    // SAFETY: `Local::spawn` put the channel there, and nothing else in this program uses it.
    let control = unsafe { UnixStream::from_raw_fd(3) };
    let mut answer = control.try_clone().expect("the control channel can be duplicated");
    for question in BufReader::new(control).lines() {
        let said = match question.expect("a question").as_str() {
            "host name" => fs::read_to_string("/proc/sys/kernel/hostname").expect("a name").trim().to_string(),
            "interfaces" => {
                let devices = fs::read_to_string("/proc/net/dev").expect("interfaces");
                let names = devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
                names.collect::<Vec<_>>().join(" ")
            }
            "descriptors" => {
                let open = fs::read_dir("/proc/self/fd").expect("descriptors").filter_map(|entry| {
                    let number: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                    Some((number, fs::read_link(format!("/proc/self/fd/{number}")).ok()?))
                });
                // Not the directory that is being read, nor the duplicate made above.
                let inherited = open.filter(|(number, to)| *number != 4 && !to.starts_with("/proc"));
                let mut numbers: Vec<_> = inherited.map(|(number, _)| number.to_string()).collect();
                numbers.sort();
                numbers.join(" ")
            }
            "session" => (nix::unistd::getsid(None).expect("a session") == nix::unistd::getpid()).to_string(),
            "directory" => env::current_dir().expect("a directory").display().to_string(),
            "variable" => env::var("DURESS_TEST_VARIABLE").expect("the variable"),
            "input" => std::io::stdin().read(&mut [0]).expect("standard input can be read").to_string(),
            "say" => {
                println!("on standard output");
                eprintln!("on standard error");
                "said".into()
            }
            other => panic!("no such question: {other}"),
        };
        writeln!(answer, "{said}").expect("the other side listens");
    }
    ExitCode::from(7)
}

/// Takes what it is told to, and says how that went, until the control channel closes.
#[expect(unsafe_code, reason = "the control channel is inherited as a bare number")]
fn hungry() -> ExitCode {
    // SAFETY: `Local::spawn` put the channel there, and nothing else in this program uses it.
    let control = unsafe { UnixStream::from_raw_fd(3) };
    let mut answer = control.try_clone().expect("the control channel can be duplicated");
    let (mut files, mut memory) = (Vec::new(), Vec::new());
    for wish in BufReader::new(control).lines() {
        let went = match wish.expect("a wish").split_once(' ') {
            None => fs::File::open("/dev/null").map(|file| files.push(file)).map_err(|e| e.to_string()),
            Some(("close", _)) => {
                files.remove(0);
                Ok(())
            }
            Some((_, bytes)) => {
                let mut taken: Vec<u8> = Vec::new();
                let room = taken.try_reserve_exact(bytes.parse().expect("a number"));
                room.map(|()| memory.push(taken)).map_err(|e| e.to_string())
            }
        };
        writeln!(answer, "{}", went.err().unwrap_or_else(|| "ok".into())).expect("the other side listens");
    }
    ExitCode::SUCCESS
}

/// Two threads that never rest.
fn spin() -> ExitCode {
    thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    loop {
        std::hint::spin_loop();
    }
}

/// Starts a process that is nobody's child any more, in a session of its own, and stays.
fn with_orphan() -> ExitCode {
    let orphan = "setsid sleep 1000 >/dev/null 2>&1 &";
    let status = Command::new("sh").args(["-c", orphan]).stdin(Stdio::null()).status().expect("sh can be started");
    assert!(status.success());
    println!("up");
    loop {
        thread::park();
    }
}
