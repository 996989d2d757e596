//! `cargo xtask new`: a folder made from a template, and one line in one list.
//!
//! A template is a folder in `xtask/templates`. Its files end in `.template`, so that neither cargo
//! nor rustfmt takes them for their own; the ending goes, and in names and contents alike
//! `{{name}}` becomes `some-name`, `{{snake}}` `some_name`, `{{Camel}}` `SomeName` and `{{SHOUT}}`
//! `SOME_NAME`. Everything is looked at before anything is written.

mod kinds;
mod name;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use kinds::Kind;
use kinds::Line;
use name::Name;

/// What has been made, and what to do next.
#[derive(Debug)]
pub(crate) struct Created {
    files: Vec<PathBuf>,
    lists: Vec<PathBuf>,
    next: Vec<String>,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "new      {}", file.display())?;
        }
        for list in &self.lists {
            writeln!(f, "one line {}", list.display())?;
        }
        writeln!(f, "\nNext:")?;
        for (number, step) in (1..).zip(&self.next) {
            writeln!(f, "{number}. {step}")?;
        }
        Ok(())
    }
}

/// Makes one, or says why not and changes nothing.
pub(crate) fn create(root: &Path, kind: Kind, name: &str) -> Result<Created, String> {
    let name = Name::parse(name)?;
    let plan = kind.plan();
    let folder = PathBuf::from(name.fill(plan.folder));
    if root.join(&folder).exists() {
        return Err(format!("{} exists; it would be overwritten", folder.display()));
    }
    if let Some(other) = namesake(root, &name) {
        return Err(format!(
            "{} has this name; packages are named after their folders, so there can be no two",
            other.display()
        ));
    }
    let files = filled(&root.join("xtask/templates").join(plan.template), &name)?;
    let lists = plan.lines.iter().map(|line| with_line(root, line, &name)).collect::<Result<Vec<_>, _>>()?;

    let mut created = Created { files: Vec::new(), lists: Vec::new(), next: Vec::new() };
    for (path, text) in files {
        let path = folder.join(path);
        write(&root.join(&path), &text)?;
        created.files.push(path);
    }
    for (path, text) in lists {
        write(&root.join(&path), &text)?;
        created.lists.push(path);
    }
    created.next = plan.next.iter().map(|step| name.fill(step)).collect();
    Ok(created)
}

/// Another folder of a crate with that name.
fn namesake(root: &Path, name: &Name) -> Option<PathBuf> {
    let folders = ["", "harness", "targets", "nemesis", "workloads", "checkers"];
    let places = folders.iter().map(|folder| Path::new(folder).join(name.as_str()));
    places.into_iter().find(|place| root.join(place).join("Cargo.toml").exists())
}

/// The files of a template, filled in: paths in the new folder, and contents.
fn filled(template: &Path, name: &Name) -> Result<Vec<(PathBuf, String)>, String> {
    let mut found = Vec::new();
    let mut folders = vec![template.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error| format!("can't read the template {}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let place = path.strip_prefix(template).unwrap_or(&path).to_string_lossy().into_owned();
            let Some(place) = place.strip_suffix(".template") else { continue };
            let text = fs::read_to_string(&path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
            let (place, text) = (name.fill(place), name.fill(&text));
            if let Some(left) = [&place, &text].into_iter().find(|text| text.contains("{{")) {
                let rest = &left[left.find("{{").unwrap_or_default()..];
                let rest: String = rest.chars().take(20).collect();
                return Err(format!("{} asks for something unknown: {rest}", path.display()));
            }
            found.push((PathBuf::from(place), text));
        }
    }
    if found.is_empty() {
        return Err(format!("{} has no files that end in .template", template.display()));
    }
    found.sort();
    Ok(found)
}

/// A file with a line more: the list's path, and what it is to hold.
fn with_line(root: &Path, line: &Line, name: &Name) -> Result<(PathBuf, String), String> {
    let path = PathBuf::from(line.file);
    let text = fs::read_to_string(root.join(&path)).map_err(|error| format!("can't read {}: {error}", line.file))?;
    let new = name.fill(line.text);
    if text.lines().any(|old| old.trim() == new.trim()) {
        return Err(format!("{} has the line `{}` already", line.file, new.trim()));
    }
    let mark = text
        .lines()
        .position(|old| old.contains(line.above))
        .ok_or_else(|| format!("{} has no line `{}`, above which the new one goes", line.file, line.above))?;
    let mut lines: Vec<&str> = text.lines().collect();
    let indent: String = lines[mark].chars().take_while(|c| c.is_whitespace()).collect();
    let new = format!("{indent}{new}");
    lines.insert(mark, &new);
    Ok((path, lines.join("\n") + "\n"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error| format!("can't write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests;
