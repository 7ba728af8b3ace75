//! Functions, frames and stacks, each kept once and named by its index: the tables of a
//! [`Profile`](crate::model::Profile).

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::{Frame, Function, Stack};

/// Values by index, each once.
#[derive(Clone, Debug)]
struct Table<T> {
    values: Vec<T>,
    indexes: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            values: Vec::new(),
            indexes: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn index(&mut self, value: T) -> u32 {
        let next = self.values.len() as u32;
        *self.indexes.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            next
        })
    }
}

/// The tables while they grow.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    functions: Table<Function>,
    frames: Table<Frame>,
    stacks: Table<Stack>,
    /// Stacks with native code on top, by the stack without and the code.
    with_native: HashMap<(u32, u32), u32>,
}

impl Tables {
    /// Index of a function in [`Profile::functions`](crate::model::Profile::functions).
    pub fn function(&mut self, function: Function) -> u32 {
        self.functions.index(function)
    }

    /// Index of a frame in [`Profile::frames`](crate::model::Profile::frames).
    pub fn frame(&mut self, frame: Frame) -> u32 {
        self.frames.index(frame)
    }

    /// Index of a stack in [`Profile::stacks`](crate::model::Profile::stacks). `frames` are
    /// indexes that [`Self::frame`] gave, root first.
    pub fn stack(&mut self, frames: Vec<u32>, truncated: bool) -> u32 {
        self.stacks.index(Stack {
            frames,
            truncated,
            native: None,
        })
    }

    /// Index of a stack that has native code on top of what `stack` has; `native` is an index into
    /// [`Profile::natives`](crate::model::Profile::natives).
    pub fn under_native(&mut self, stack: u32, native: u32) -> u32 {
        if let Some(&known) = self.with_native.get(&(stack, native)) {
            return known;
        }
        let below = self.stacks.values.get(stack as usize);
        let index = self.stacks.index(Stack {
            native: Some(native),
            ..below.cloned().unwrap_or_default()
        });
        self.with_native.insert((stack, native), index);
        index
    }

    /// The functions so far, by index.
    pub fn functions(&self) -> &[Function] {
        &self.functions.values
    }

    /// The frames so far, by index.
    pub fn frames(&self) -> &[Frame] {
        &self.frames.values
    }

    /// The stacks so far, by index.
    pub fn stacks(&self) -> &[Stack] {
        &self.stacks.values
    }

    /// The three tables, for the finished profile.
    pub fn into_parts(self) -> (Vec<Function>, Vec<Frame>, Vec<Stack>) {
        (
            self.functions.values,
            self.frames.values,
            self.stacks.values,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_index() {
        let mut tables = Tables::default();
        let function = |name: &str| Function {
            name: name.into(),
            ..Function::default()
        };
        assert_eq!(tables.function(function("a")), 0);
        assert_eq!(tables.function(function("b")), 1);
        assert_eq!(tables.function(function("a")), 0);
        let frame = |function, line| Frame { function, line };
        let (a, b) = (tables.frame(frame(0, 7)), tables.frame(frame(0, 8)));
        assert_eq!(tables.stack(vec![a, b], false), 0);
        assert_eq!(tables.stack(vec![a, b], true), 1);
        assert_eq!(tables.stack(vec![a, b], false), 0);
        let (functions, frames, stacks) = tables.into_parts();
        assert_eq!((functions.len(), frames.len(), stacks.len()), (2, 2, 2));
    }
}
