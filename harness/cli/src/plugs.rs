//! The plugs of this binary: the one list of targets. Workloads and judges are listed where they are.

use std::sync::LazyLock;

use duress_kit::Kit;
use duress_plug::Target;

/// The kits of every crate of targets. What is meant by no name comes first.
static CRATES: &[&[&'static dyn Kit]] = &[duress_kv::KITS, duress_ring::KITS];

/// Every kit.
pub(crate) fn kits() -> impl Iterator<Item = &'static dyn Kit> {
    CRATES.iter().copied().flatten().copied()
}

/// The kit of a target.
pub(crate) fn kit(name: &str) -> Option<&'static dyn Kit> {
    kits().find(|kit| kit.target().name() == name)
}

/// What every target says of itself.
pub(crate) fn targets() -> &'static [&'static dyn Target] {
    static TARGETS: LazyLock<Vec<&'static dyn Target>> = LazyLock::new(|| kits().map(|kit| kit.target()).collect());
    &TARGETS
}
