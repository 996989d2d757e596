//! Queues, stacks and priority queues: what is put in is taken out once, in some order.

use std::collections::VecDeque;

use duress_history::formats::{Function, Known, Operation, Value};
use stateright::semantics::SequentialSpec;

use super::object::{Call, Entries, Found, Object};
use super::values::Values;
use super::{cannot, monitor};

/// Which element is taken next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discipline {
    /// The first that was put in.
    Queue,
    /// The last that was put in.
    Stack,
    /// The smallest.
    Priority,
}

/// A container and its elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    discipline: Discipline,
    items: VecDeque<i64>,
}

impl Container {
    /// An empty one.
    pub fn new(discipline: Discipline) -> Container {
        Container { discipline, items: VecDeque::new() }
    }

    /// Its elements: in the order in which they were put in, or ascending where the smallest is
    /// taken first.
    pub fn items(&self) -> &VecDeque<i64> {
        &self.items
    }

    /// Takes the element at a place among [`Container::items`], whatever the discipline says.
    pub fn take(&mut self, at: usize) -> Option<i64> {
        self.items.remove(at)
    }
}

/// What can be asked of a container. Elements are numbers that stand for values; where the smallest
/// is taken first they are the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerOp {
    /// To put an element in.
    Insert(i64),
    /// To take the next element out.
    Remove,
}

/// What a container answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerRet {
    /// It is in.
    Done,
    /// The element that was taken; `None`: there was none.
    Taken(Option<i64>),
}

impl SequentialSpec for Container {
    type Op = ContainerOp;
    type Ret = ContainerRet;

    fn invoke(&mut self, op: &ContainerOp) -> ContainerRet {
        match (op, self.discipline) {
            (ContainerOp::Insert(item), Discipline::Priority) => {
                let at = self.items.partition_point(|other| other < item);
                self.items.insert(at, *item);
                ContainerRet::Done
            }
            (ContainerOp::Insert(item), _) => {
                self.items.push_back(*item);
                ContainerRet::Done
            }
            (ContainerOp::Remove, Discipline::Stack) => ContainerRet::Taken(self.items.pop_back()),
            (ContainerOp::Remove, _) => ContainerRet::Taken(self.items.pop_front()),
        }
    }
}

/// Containers, one per key, empty at first.
pub(crate) struct Containers(pub Discipline);

impl Containers {
    fn inserts(&self, function: &Function) -> bool {
        match (function, self.0) {
            (Function::Enqueue, Discipline::Queue) => true,
            (Function::Enqueue | Function::Add, Discipline::Priority) => true,
            (Function::Other(name), Discipline::Stack) => name == "push",
            (Function::Other(name), Discipline::Priority) => matches!(name.as_str(), "insert" | "push"),
            _ => false,
        }
    }

    fn removes(&self, function: &Function) -> bool {
        match (function, self.0) {
            (Function::Dequeue, Discipline::Queue | Discipline::Priority) => true,
            (Function::Other(name), Discipline::Stack) => name == "pop",
            (Function::Other(name), Discipline::Priority) => {
                matches!(name.as_str(), "extract" | "extract-min" | "delete-min" | "poll" | "pop")
            }
            _ => false,
        }
    }

    fn item(&self, value: &Value, values: &mut Values) -> Result<i64, String> {
        match (self.0, value) {
            (_, Value::Nil) => Err("nil is no element".into()),
            (Discipline::Priority, value) => {
                value.as_int().ok_or_else(|| format!("{value} is no whole number, so no priority"))
            }
            (_, value) => Ok(values.number(value).into()),
        }
    }
}

impl Object for Containers {
    type Spec = Container;

    fn name(&self) -> &'static str {
        match self.0 {
            Discipline::Queue => "queue",
            Discipline::Stack => "stack",
            Discipline::Priority => "priority-queue",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Discipline::Queue => "linearizable FIFO queues: enqueue v, dequeue -> v or nil (empty), drain -> [v ...]",
            Discipline::Stack => "linearizable LIFO stacks: push v, pop -> v or nil (empty)",
            Discipline::Priority => {
                "linearizable priority queues: insert n, extract-min -> the smallest n, or nil (empty)"
            }
        }
    }

    fn initial(&self) -> Container {
        Container::new(self.0)
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<Container>>,
    ) -> Result<(), String> {
        let function = &operation.op.f;
        if self.inserts(function) {
            let done = matches!(known, Known::Happened(_)).then_some(ContainerRet::Done);
            calls.push(Call::new(ContainerOp::Insert(self.item(&operation.op.value, values)?), done));
            return Ok(());
        }
        if self.removes(function) {
            calls.push(match known {
                Known::Happened(Value::Nil) => Call::look(ContainerOp::Remove, ContainerRet::Taken(None)),
                Known::Happened(value) => {
                    Call::new(ContainerOp::Remove, Some(ContainerRet::Taken(Some(self.item(value, values)?))))
                }
                _ => Call::new(ContainerOp::Remove, None),
            });
            return Ok(());
        }
        match (function, known) {
            (Function::Drain, Known::Happened(drained)) if self.0 == Discipline::Queue => {
                let Some(drained) = drained.as_elements() else {
                    return Err(format!("a drain gave {drained}, which is no list"));
                };
                for value in drained {
                    let taken = ContainerRet::Taken(Some(self.item(value, values)?));
                    calls.push(Call::new(ContainerOp::Remove, Some(taken)));
                }
                Ok(())
            }
            (Function::Drain, _) if self.0 == Discipline::Queue => {
                Err("a drain of which nobody knows what it took".into())
            }
            _ => cannot(
                operation,
                match self.0 {
                    Discipline::Queue => "enqueue, dequeue and drain",
                    Discipline::Stack => "push and pop",
                    Discipline::Priority => "insert and extract-min",
                },
            ),
        }
    }

    fn monitor(&self, entries: &Entries<Container>) -> Option<Found> {
        monitor::judge(self.0, entries)
    }

    /// All that is about one element goes together; looking into an empty container goes alone.
    fn classes(&self, entries: &Entries<Container>) -> Vec<Option<u64>> {
        let empty = |at: usize| Some(at as u64 + (1 << 63));
        let class =
            |(at, entry): (usize, &crate::wgl::Entry<ContainerOp, ContainerRet>)| match (&entry.op, &entry.returned) {
                (ContainerOp::Insert(item), _) | (_, Some((_, ContainerRet::Taken(Some(item))))) => {
                    Some(item.cast_unsigned() & !(1 << 63))
                }
                (ContainerOp::Remove, None) => None,
                _ => empty(at),
            };
        entries.iter().enumerate().map(class).collect()
    }
}
