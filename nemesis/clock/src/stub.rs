//! The code that is put into other processes, and the jumps to it. The code itself is in `stub/`,
//! one file for each architecture.
#![expect(unsafe_code, reason = "the stub's bytes are named by symbols of the assembler")]

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(include_str!("stub/x86_64.s"));
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(include_str!("stub/aarch64.s"));
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("clocks can be skewed on Linux on x86-64 and AArch64");

unsafe extern "C" {
    static duress_stub_start: u8;
    static duress_stub_clock_gettime: u8;
    static duress_stub_gettimeofday: u8;
    static duress_stub_time: u8;
    static duress_stub_end: u8;
}

/// What the stub begins with.
pub(crate) const MAGIC: &[u8; 8] = b"duressSK";
/// The size of each of the stub's two pages, whatever the machine's pages are: on larger ones the
/// rest is unused.
pub(crate) const PAGE: u64 = 4096;
/// How far a jump reaches, less a margin.
#[cfg(target_arch = "x86_64")]
pub(crate) const REACH: u64 = (1 << 31) - (1 << 20);
/// How far a jump reaches, less a margin.
#[cfg(target_arch = "aarch64")]
pub(crate) const REACH: u64 = (1 << 27) - (1 << 20);
/// How many bytes of an entry are replaced.
#[cfg(target_arch = "x86_64")]
pub(crate) const JUMP: u64 = 5;
/// How many bytes of an entry are replaced.
#[cfg(target_arch = "aarch64")]
pub(crate) const JUMP: u64 = 4;
/// An instruction that enters the kernel.
#[cfg(target_arch = "x86_64")]
pub(crate) const SYSCALL: &[u8] = &[0x0f, 0x05];
/// An instruction that enters the kernel.
#[cfg(target_arch = "aarch64")]
pub(crate) const SYSCALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

/// The stub's bytes.
pub(crate) fn code() -> &'static [u8] {
    let start = &raw const duress_stub_start;
    let length = address(&raw const duress_stub_end) - address(start);
    // SAFETY: the assembler put these bytes, and nothing else, between the two symbols.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Where in the stub the replacements of [`crate::vdso::FUNCTIONS`] are.
pub(crate) fn entries() -> [u64; 3] {
    let start = address(&raw const duress_stub_start);
    let offset = |symbol| (address(symbol) - start) as u64;
    [
        offset(&raw const duress_stub_clock_gettime),
        offset(&raw const duress_stub_gettimeofday),
        offset(&raw const duress_stub_time),
    ]
}

fn address(symbol: *const u8) -> usize {
    symbol as usize
}

/// The first eight bytes of an entry that jumps to `to`; all but the jump stay as they are.
pub(crate) fn jump(from: u64, to: u64, before: [u8; 8]) -> [u8; 8] {
    let mut bytes = before;
    #[cfg(target_arch = "x86_64")]
    {
        let distance = to.wrapping_sub(from + JUMP) as i32;
        bytes[0] = 0xe9;
        bytes[1..5].copy_from_slice(&distance.to_le_bytes());
    }
    #[cfg(target_arch = "aarch64")]
    {
        let distance = (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff;
        bytes[..4].copy_from_slice(&(0x1400_0000 | distance).to_le_bytes());
    }
    bytes
}

/// Where an entry that begins with a jump jumps to.
pub(crate) fn target(from: u64, bytes: [u8; 8]) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        let distance = i32::from_le_bytes(bytes[1..5].try_into().ok()?);
        (bytes[0] == 0xe9).then(|| (from + JUMP).wrapping_add_signed(i64::from(distance)))
    }
    #[cfg(target_arch = "aarch64")]
    {
        let word = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        let distance = i64::from((word << 6) as i32 >> 6) << 2;
        (word >> 26 == 5).then(|| from.wrapping_add_signed(distance))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::data::{Clock, ONE, Setting};

    #[test]
    fn jumps_lead_where_they_should() {
        let before = [1, 2, 3, 4, 5, 6, 7, 8];
        for (from, to) in [(0x7fff_0000_0af0, 0x7fff_0001_2010), (0x7fff_0400_0000, 0x7fff_0000_0010)] {
            let bytes = jump(from, to, before);
            assert_eq!(target(from, bytes), Some(to));
            assert_eq!(bytes[JUMP as usize..], before[JUMP as usize..]);
        }
        assert_eq!(target(0, before), None);
    }

    #[test]
    fn the_stub_fits_its_page() {
        assert!(code().starts_with(MAGIC));
        assert!(code().len() < PAGE as usize);
        assert!(entries().iter().all(|at| *at as usize <= code().len()));
    }

    /// Runs the stub by itself, as this architecture's or another's program, against the
    /// arithmetic of [`Setting`].
    fn tells_what_it_should(compiler: &[&str], assembly: &str, runner: &[&str]) {
        let folder = tempfile::tempdir().expect("a folder");
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = folder.path().join("stub");
        let source = folder.path().join("stub.s");
        let text = std::fs::read_to_string(here.join(assembly)).expect("the stub");
        let syntax = if assembly.contains("x86") { ".intel_syntax noprefix\n" } else { "" };
        std::fs::write(&source, format!("{syntax}{text}\n.section .note.GNU-stack\n")).expect("written");
        let status = Command::new(compiler[0])
            .args(&compiler[1..])
            .args(["-O1", "-static", "-o"])
            .arg(&program)
            .arg(here.join("tests/programs/stub.c"))
            .arg(&source)
            .status();
        assert!(status.expect("a compiler").success());
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: i64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((u128::from(random) * below as u128) >> 64) as i64
        };
        for round in 0..60 {
            let settings = Clock::ALL.map(|clock| {
                let now = crate::data::now(clock);
                Setting {
                    base: now - draw(20_000_000_000),
                    value: now + if round % 2 == 0 { draw(1 << 50) } else { -draw(1 << 36) },
                    rate: [0, -ONE, draw(ONE), -draw(ONE), 1000 * ONE][round % 5],
                    period: [0, 0, 1_000_000_000][round % 3],
                    other: draw(1 << 40) - (1 << 39),
                    active: round % 7 != 6,
                }
            });
            let words = settings.iter().flat_map(|s| [s.base, s.value, s.rate, s.period, s.other, i64::from(s.active)]);
            let mut command = Command::new(runner.first().map_or(program.as_os_str(), |runner| runner.as_ref()));
            if !runner.is_empty() {
                command.args(&runner[1..]).arg(&program);
            }
            let output = command.args(words.map(|word| word.to_string())).output().expect("the stub runs");
            let text = String::from_utf8(output.stdout).expect("text");
            assert!(output.status.success(), "{}: {text} for {settings:?}", output.status);
            for line in text.lines().filter(|line| !line.starts_with("reads")) {
                let n: Vec<i64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
                let setting = settings[if n[0] > 2 { 0 } else { n[0] as usize }];
                let (before, after) = (setting.tell(n[1]), setting.tell(n[3]));
                // Whole microseconds of true time are whole microseconds of a fast clock's time.
                let microsecond = 2_001 + setting.rate.max(0) / (ONE / 1_000);
                let rough = [0, 0, 0, microsecond, 1_000_000_000][n[0] as usize];
                // A strobe may flip in between.
                let flips = setting.period > 0
                    && (n[1] - setting.base) / setting.period != (n[3] - setting.base) / setting.period;
                assert!(flips || (before - rough..=after).contains(&n[2]), "{line}: {before}..={after} by {setting:?}");
            }
            let reads = if text.contains("\n4 ") { "reads 4 1 1" } else { "reads 2 1 1" };
            assert!(text.ends_with(&format!("{reads}\n")), "{text}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_stub_tells_what_it_should() {
        tells_what_it_should(&["cc"], "src/stub/x86_64.s", &[]);
    }

    /// The other architecture's stub, where a cross compiler and an emulator are there.
    #[test]
    fn the_stub_of_aarch64_tells_what_it_should() {
        let there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        if there("aarch64-linux-gnu-gcc") && there("qemu-aarch64") {
            tells_what_it_should(&["aarch64-linux-gnu-gcc"], "src/stub/aarch64.s", &["qemu-aarch64"]);
        } else {
            assert!(std::env::var_os("CI").is_none(), "CI needs aarch64-linux-gnu-gcc and qemu-aarch64");
            eprintln!("SKIPPED: there is no aarch64-linux-gnu-gcc or no qemu-aarch64 here");
        }
    }
}
