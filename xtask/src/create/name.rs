//! Names of folders, packages and types.

/// A name that can be a folder, a package, a module and a type.
#[derive(Debug)]
pub(crate) struct Name(String);

/// The longest that still reads well in a table.
const LONGEST: usize = 32;
/// What neither a module nor a crate can be called, or what would be mistaken for another crate.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "duress",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "main",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "target",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

impl Name {
    pub(crate) fn parse(name: &str) -> Result<Name, String> {
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        if !name.split('-').all(word) {
            return Err(format!(
                "`{name}` is no name: words of lower-case letters and digits, each beginning with a letter, with \
                 hyphens between them, as in `token-ring`"
            ));
        }
        if name.len() > LONGEST {
            return Err(format!("`{name}` is longer than {LONGEST} letters"));
        }
        if RESERVED.contains(&name) {
            return Err(format!("`{name}` means something else already"));
        }
        Ok(Name(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A text of a template with this name filled in.
    pub(crate) fn fill(&self, text: &str) -> String {
        let snake = self.0.replace('-', "_");
        text.replace("{{name}}", &self.0)
            .replace("{{snake}}", &snake)
            .replace("{{Camel}}", &self.camel())
            .replace("{{SHOUT}}", &snake.to_uppercase())
    }

    fn camel(&self) -> String {
        let word = |word: &str| word[..1].to_uppercase() + &word[1..];
        self.0.split('-').map(word).collect()
    }
}
