//! What plugs say of themselves, in Markdown: the generated parts of `docs/reference.md`.

use std::fmt::Write;

use crate::{Kind, Opt, Opts, Plugs, Target, Usual, Value, Workload, duration};

/// The whole reference of some plugs.
pub fn reference(plugs: &Plugs<'_>) -> String {
    let mut text = String::from("## Targets\n");
    for target in plugs.targets {
        text += &format!("\n{}", self::target(*target));
    }
    text += "\n## Workloads\n";
    for workload in plugs.workloads {
        text += &format!("\n{}", self::workload(*workload));
    }
    text
}

/// A target: its options, and what it promises with all defaults.
pub fn target(target: &dyn Target) -> String {
    let mut text = format!("### {}\n\n{}.\n\n{}", target.name(), capital(target.about()), table(target.options()));
    if let Ok(facts) = target.facts(&Opts::usual(target.options())) {
        text += &format!("\nServes {}.", names(facts.functions));
        for (what, words) in [("Promises", facts.promises), ("Assumes", facts.assumes)] {
            if !words.is_empty() {
                text += &format!(" {what}, with these defaults: {words}.");
            }
        }
        text += "\n";
    }
    text
}

/// A workload: its options.
pub fn workload(workload: &dyn Workload) -> String {
    let options = Opts::usual(workload.options());
    format!(
        "### {}\n\n{}.\n\n{}\nAsks for {}.\n",
        workload.name(),
        capital(workload.about()),
        table(workload.options()),
        names(&workload.functions(&options))
    )
}

/// A table of options.
pub fn table(options: &[Opt]) -> String {
    let mut text = String::from("| option | is | default | |\n|---|---|---|---|\n");
    for option in options {
        let empty = if option.optional { ", or empty" } else { "" };
        // Strings take everything.
        let _ = writeln!(
            text,
            "| `{}` | {}{empty} | {} | {} |",
            option.name,
            possible(&option.kind),
            usual(option),
            meaning(option)
        );
    }
    text
}

/// What an option can be, in words.
pub fn possible(kind: &Kind) -> String {
    match kind {
        Kind::Integer { least, most } => format!("{least} to {most}"),
        Kind::Number { least, most } => format!("a number, {least} to {most}"),
        Kind::Duration { least, most } => format!("{} to {}", duration::format(*least), duration::format(*most)),
        Kind::Flag => "`true` or `false`".into(),
        Kind::Choice(of) => {
            let names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
            self::names(&names)
        }
        Kind::Text { wanted, .. } => (*wanted).into(),
        Kind::Weights { names, most } => format!("weights from 0 to {most} for {}", self::names(names)),
        Kind::Bug => "a bug of this target (`duress list bugs`), or `none`".into(),
    }
}

/// What an option is unless it is given, in words.
pub fn usual(option: &Opt) -> String {
    match option.usual {
        Usual::Integer(number) => number.to_string(),
        Usual::Number(number) => number.to_string(),
        Usual::Duration(time) => duration::format(time),
        Usual::Flag(flag) => format!("`{flag}`"),
        Usual::Name(name) => format!("`{name}`"),
        Usual::Weights(weights) => weights.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Usual::Nothing => "empty".into(),
        Usual::From { words, .. } => words.into(),
    }
}

/// A value as it would be typed.
pub fn typed(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Duration(time) => duration::format(*time),
        Value::Flag(flag) => flag.to_string(),
        Value::Name(name) => (*name).into(),
        Value::Text(text) => text.to_string(),
        Value::Weights(weights) => format!("{weights:?}"),
        Value::Nothing => "null".into(),
    }
}

fn meaning(option: &Opt) -> String {
    let mut text = option.doc.to_owned();
    if let Kind::Choice(of) = option.kind {
        let each: Vec<String> = of.iter().map(|(name, about)| format!("`{name}`: {about}")).collect();
        text += &format!(" {}.", each.join("; "));
    }
    text.replace('|', "\\|")
}

fn names(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A text with the part between its two marks of a name replaced:
/// `<!-- begin generated: NAME -->` and `<!-- end generated: NAME -->`. `None` if they aren't there.
pub fn filled(text: &str, name: &str, with: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin generated: {name} -->\n"), format!("<!-- end generated: {name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", with.trim()))
}
