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
    use super::*;

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
}
