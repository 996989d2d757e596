//! What can be made: where it goes, the line that makes it known, and what to do next.

use clap::ValueEnum;

/// What a new folder is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A system under test
    Target,
    /// What clients do, and what it is judged by
    Workload,
    /// Judges histories
    Checker,
    /// Makes hosts, and runs processes on them
    Backend,
}

/// How one is made. Texts may have the name in them, as templates do.
pub(crate) struct Plan {
    /// In `xtask/templates`.
    pub(crate) template: &'static str,
    pub(crate) folder: &'static str,
    pub(crate) lines: &'static [Line],
    pub(crate) next: &'static [&'static str],
}

/// A line that goes into a list.
pub(crate) struct Line {
    pub(crate) file: &'static str,
    /// Part of the line above which the new one goes, indented as that is.
    pub(crate) above: &'static str,
    pub(crate) text: &'static str,
}

impl Kind {
    pub(crate) fn plan(self) -> Plan {
        match self {
            Kind::Target => Plan {
                template: "target",
                folder: "targets/{{name}}",
                lines: &[Line {
                    file: "Cargo.toml",
                    above: "# cargo xtask new target",
                    text: "duress-{{name}} = { path = \"targets/{{name}}\" }",
                }],
                next: &[
                    "write the protocol in targets/{{name}}/src",
                    "cargo test -p duress-{{name}}",
                    "give it a row in ARCHITECTURE.md; `cargo test -p duress-cli --test tidy` says what is missing",
                ],
            },
            Kind::Workload => Plan {
                template: "workload",
                folder: "workloads/{{name}}",
                lines: &[Line {
                    file: "Cargo.toml",
                    above: "# cargo xtask new workload",
                    text: "duress-{{name}} = { path = \"workloads/{{name}}\" }",
                }],
                next: &[
                    "say in workloads/{{name}}/src what clients do and what they are judged by",
                    "cargo test -p duress-{{name}}",
                ],
            },
            Kind::Checker => Plan {
                template: "checker",
                folder: "checkers/{{name}}",
                lines: &[Line {
                    file: "Cargo.toml",
                    above: "# cargo xtask new checker",
                    text: "duress-{{name}} = { path = \"checkers/{{name}}\" }",
                }],
                next: &[
                    "write the judgement in checkers/{{name}}/src, and a naive one beside it to compare with",
                    "cargo test -p duress-{{name}}",
                ],
            },
            Kind::Backend => Plan {
                template: "backend",
                folder: "harness/{{name}}",
                lines: &[Line {
                    file: "Cargo.toml",
                    above: "# cargo xtask new backend",
                    text: "duress-{{name}} = { path = \"harness/{{name}}\" }",
                }],
                next: &[
                    "make hosts in harness/{{name}}/src, and say which families of faults it lacks",
                    "cargo test -p duress-{{name}}",
                ],
            },
        }
    }
}
