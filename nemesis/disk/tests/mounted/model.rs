//! The naive twin of a disk: every file is whole in memory several times.

use std::collections::BTreeMap;

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(usize),
    Directory(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    /// What programs see.
    seen: Vec<u8>,
    /// What a sync would make durable.
    next: Vec<u8>,
    /// What would be there without the writes since the last sync.
    under: Vec<u8>,
    durable: Vec<u8>,
}

type Names = BTreeMap<String, Node>;

/// A disk, by path: `""` is the root.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    files: Vec<File>,
    /// The names that programs see, and the durable ones.
    directories: Vec<(Names, Names)>,
    moves: Vec<(usize, usize)>,
}

/// What is at every path: nothing is a directory.
pub(crate) type Image = BTreeMap<String, Option<Vec<u8>>>;

impl Model {
    pub(crate) fn new() -> Model {
        Model { files: Vec::new(), directories: vec![Default::default()], moves: Vec::new() }
    }

    fn node(&self, path: &str) -> Option<Node> {
        let mut at = Node::Directory(0);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Directory(directory) = at else { return None };
            at = *self.directories[directory].0.get(name)?;
        }
        Some(at)
    }

    /// The directory a path is in, and its last name.
    fn place<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.node(parent)? {
            Node::Directory(directory) => Some((directory, name)),
            Node::File(_) => None,
        }
    }

    fn file(&mut self, path: &str) -> Option<&mut File> {
        match self.node(path)? {
            Node::File(file) => Some(&mut self.files[file]),
            Node::Directory(_) => None,
        }
    }

    fn put_new(&mut self, path: &str, node: Node) -> Option<()> {
        let (directory, name) = self.place(path)?;
        if self.directories[directory].0.contains_key(name) {
            return None;
        }
        self.directories[directory].0.insert(name.to_owned(), node);
        Some(())
    }

    pub(crate) fn create(&mut self, path: &str) -> Option<()> {
        self.put_new(path, Node::File(self.files.len()))?;
        self.files.push(File::default());
        Some(())
    }

    pub(crate) fn mkdir(&mut self, path: &str) -> Option<()> {
        self.put_new(path, Node::Directory(self.directories.len()))?;
        self.directories.push(Default::default());
        Some(())
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) -> Option<()> {
        match self.node(from)? {
            Node::File(file) => self.put_new(to, Node::File(file)),
            Node::Directory(_) => None,
        }
    }

    pub(crate) fn remove(&mut self, path: &str) -> Option<()> {
        let (directory, name) = self.place(path)?;
        if let Node::Directory(gone) = self.node(path)?
            && (gone == 0 || !self.directories[gone].0.is_empty())
        {
            return None;
        }
        self.directories[directory].0.remove(name);
        Some(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Option<()> {
        let node = self.node(from)?;
        let (source, old) = self.place(from)?;
        let (target, new) = self.place(to)?;
        if from.starts_with(&format!("{to}/")) || to.starts_with(&format!("{from}/")) {
            return None;
        }
        match (node, self.node(to)) {
            (same, Some(there)) if same == there => return Some(()),
            (Node::Directory(_), Some(Node::File(_))) | (Node::File(_), Some(Node::Directory(_))) => return None,
            (_, Some(Node::Directory(there))) if !self.directories[there].0.is_empty() => return None,
            _ => {}
        }
        self.directories[source].0.remove(old);
        self.directories[target].0.insert(new.to_owned(), node);
        if source != target {
            self.moves.push((source, target));
            if matches!(node, Node::Directory(_)) {
                self.settle(target);
            }
        }
        Some(())
    }

    pub(crate) fn write(&mut self, path: &str, offset: usize, data: &[u8]) -> Option<()> {
        let file = self.file(path)?;
        let end = file.seen.len().max(offset + data.len());
        for image in [&mut file.seen, &mut file.next, &mut file.under] {
            image.resize(end, 0);
        }
        file.seen[offset..offset + data.len()].copy_from_slice(data);
        file.next[offset..offset + data.len()].copy_from_slice(data);
        Some(())
    }

    pub(crate) fn truncate(&mut self, path: &str, size: usize) -> Option<()> {
        let file = self.file(path)?;
        for image in [&mut file.seen, &mut file.next, &mut file.under] {
            image.resize(size, 0);
        }
        Some(())
    }

    pub(crate) fn sync(&mut self, path: &str) -> Option<()> {
        match self.node(path)? {
            Node::File(file) => {
                let file = &mut self.files[file];
                file.durable = file.next.clone();
                file.under = file.next.clone();
            }
            Node::Directory(directory) => self.settle(directory),
        }
        Some(())
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.node(path).is_some()
    }

    /// A sync that fails.
    pub(crate) fn fail_sync(&mut self, path: &str) {
        if let Some(file) = self.file(path) {
            file.next = file.under.clone();
        }
    }

    /// The names in a directory become durable, and those in directories that it shares a move with.
    fn settle(&mut self, directory: usize) {
        let mut together = vec![directory];
        let mut at = 0;
        while at < together.len() {
            for (a, b) in self.moves.clone() {
                for (one, other) in [(a, b), (b, a)] {
                    if one == together[at] && !together.contains(&other) {
                        together.push(other);
                    }
                }
            }
            at += 1;
        }
        for directory in &together {
            self.directories[*directory].1 = self.directories[*directory].0.clone();
        }
        self.moves.retain(|(a, _)| !together.contains(a));
    }

    pub(crate) fn power_loss(&mut self) {
        for file in &mut self.files {
            let durable = file.durable.clone();
            *file = File { seen: durable.clone(), next: durable.clone(), under: durable.clone(), durable };
        }
        for (names, durable) in &mut self.directories {
            *names = durable.clone();
        }
        self.moves.clear();
    }

    /// What programs see, or what is durable.
    pub(crate) fn image(&self, durable: bool) -> Image {
        let mut image = Image::new();
        let mut waiting = vec![(String::new(), 0)];
        while let Some((path, directory)) = waiting.pop() {
            let (seen, kept) = &self.directories[directory];
            for (name, node) in if durable { kept } else { seen } {
                let path = format!("{path}/{name}");
                match node {
                    Node::File(file) => {
                        let File { seen, durable: kept, .. } = &self.files[*file];
                        image.insert(path, Some(if durable { kept } else { seen }.clone()));
                    }
                    Node::Directory(inside) => {
                        image.insert(path.clone(), None);
                        waiting.push((path, *inside));
                    }
                }
            }
        }
        image
    }
}
