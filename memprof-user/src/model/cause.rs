//! Why pages became resident when no Python stack says so.

use memprof_common::records::walk_result;

use super::profile::Cause;

/// What the kernel side's walk result means. `stack_known`: the caller has the frames of the
/// record's stack. `started`: the process has had a Python stack in its present program, so that
/// its start-up is over.
///
/// Whether the process is Python at all is not known yet: see [`in_image`].
pub fn from_walk(op: u16, stack_known: bool, started: bool) -> Cause {
    match op {
        walk_result::STACK if stack_known => Cause::Python,
        walk_result::NO_LAYOUT | walk_result::NO_THREAD_STATE | walk_result::NO_FRAME
            if !started =>
        {
            Cause::Interpreter
        }
        walk_result::NO_THREAD_STATE => Cause::NoPythonFrame,
        walk_result::NO_FRAME => Cause::Interpreter,
        _ => Cause::Unknown,
    }
}

/// The cause in the light of whether the program turned out to be Python.
pub fn in_image(cause: Cause, recognised: bool) -> Cause {
    match cause {
        // Who did it is told apart from the program that it was done to.
        Cause::Python | Cause::OtherProcess | Cause::Found => cause,
        _ if !recognised => Cause::NotPython,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_walk_result_has_its_cause() {
        use Cause::*;
        // (op, stack known) → (before the first stack, after it)
        let rows = [
            (walk_result::STACK, true, Python, Python),
            (walk_result::STACK, false, Unknown, Unknown),
            (walk_result::NO_LAYOUT, false, Interpreter, Unknown),
            (
                walk_result::NO_THREAD_STATE,
                false,
                Interpreter,
                NoPythonFrame,
            ),
            (walk_result::NO_FRAME, false, Interpreter, Interpreter),
            (walk_result::FAILED, false, Unknown, Unknown),
            (u16::MAX, false, Unknown, Unknown),
        ];
        for (op, stack_known, before, after) in rows {
            assert_eq!(from_walk(op, stack_known, false), before, "op {op}");
            assert_eq!(from_walk(op, stack_known, true), after, "op {op}");
        }
    }

    #[test]
    fn a_program_that_is_not_python_has_no_interpreter() {
        assert_eq!(in_image(Cause::Interpreter, false), Cause::NotPython);
        assert_eq!(in_image(Cause::Unknown, false), Cause::NotPython);
        for cause in [Cause::Python, Cause::OtherProcess, Cause::Found] {
            assert_eq!(in_image(cause, false), cause);
        }
        assert_eq!(in_image(Cause::Interpreter, true), Cause::Interpreter);
    }
}
