//! What is healed first.

/// What is healed first when the main phase is over. Everything is healed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heal {
    /// Everything, at once.
    All,
    /// A quorum of the nodes, drawn from the seed, which must serve before the rest, down or cut
    /// off until then, is healed as well.
    Quorum,
}

impl Heal {
    /// Both, with their names.
    pub(crate) const ALL: &'static [(&'static str, Heal)] = &[("all", Heal::All), ("quorum", Heal::Quorum)];

    /// Its name: `all` or `quorum`.
    pub fn name(self) -> &'static str {
        match self {
            Heal::All => "all",
            Heal::Quorum => "quorum",
        }
    }
}
