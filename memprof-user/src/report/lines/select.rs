//! Which functions a name means: the end of `package.module.Class.method`, or a glob over it.

use std::path::{Component, Path};

use glob::{MatchOptions, Pattern};

use super::Lines;
use crate::report::tally::{FunctionKey, Place};
use crate::sink::escape;
use crate::{Error, Exit, Result};

/// More tables than this are no answer.
const MOST: usize = 100;
/// Names told when a name matches none, or too many.
const TOLD: usize = 5;

/// A component is no more than that: `*` does not go beyond a dot.
const BY_COMPONENT: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl<'a> Lines<'a> {
    /// The functions that at least one of `names` means, the largest first. An error when a name
    /// means none, or when there are hundreds; its hint is for the capture `file`.
    pub fn named(&self, names: &[String], file: &Path) -> Result<Vec<Place<FunctionKey<'a>>>> {
        let parts: Vec<Vec<String>> = self.functions.iter().map(|f| parts(&f.key)).collect();
        let mut chosen = vec![false; parts.len()];
        for name in names {
            let wanted = Wanted::new(name)?;
            let mut found = false;
            for (chosen, parts) in chosen.iter_mut().zip(&parts) {
                let matches = wanted.matches(parts);
                *chosen |= matches;
                found |= matches;
            }
            if !found {
                return Err(no_such(name, &parts, file));
            }
        }
        let functions = self.functions.iter().zip(chosen);
        let functions = functions.filter_map(|(place, chosen)| chosen.then_some(*place));
        let functions: Vec<_> = functions.collect();
        match functions.len() {
            0..=MOST => Ok(functions),
            many => Err(too_many(many, &functions, file)),
        }
    }
}

fn no_such(name: &str, functions: &[Vec<String>], file: &Path) -> Error {
    let error = format!(
        "no function {} made anything resident",
        escape::terminal(name)
    );
    let wanted = split(name);
    let mut near: Vec<(f64, String)> = functions
        .iter()
        .map(|parts| (likeness(&wanted, parts), short(parts)))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    near.truncate(TOLD);
    let names: Vec<&str> = near.iter().map(|(_, name)| name.as_str()).collect();
    match names.first() {
        Some(nearest) => Error::failed(
            error,
            format!("the nearest names: {}", names.join(", ")),
            command(file, nearest),
        ),
        None => Error::failed(
            error,
            "the capture has no Python function with growth",
            format!("memprof-ebpf report {}", escape::shell(file)),
        ),
    }
}

fn command(file: &Path, name: &str) -> String {
    format!(
        "memprof-ebpf lines {} --func {}",
        escape::shell(file),
        escape::shell(name.as_ref())
    )
}

fn too_many(many: usize, functions: &[Place<FunctionKey<'_>>], file: &Path) -> Error {
    let told = functions.iter().take(TOLD);
    let told: Vec<String> = told.map(|place| short(&parts(&place.key))).collect();
    Error::failed(
        format!("the names mean {many} functions"),
        format!(
            "more than {MOST}; those with most growth: {}",
            told.join(", ")
        ),
        command(file, told.first().map_or("*", |name| name)),
    )
    .with_exit(Exit::Usage)
}

/// A name as it was typed.
enum Wanted {
    End(Vec<String>),
    /// Components are separated by `/`, which no name has.
    Glob(Pattern, usize),
}

impl Wanted {
    fn new(name: &str) -> Result<Wanted> {
        let wanted = split(name);
        if !name.contains(['*', '?', '[']) {
            return Ok(Wanted::End(wanted));
        }
        match Pattern::new(&wanted.join("/")) {
            Ok(pattern) => Ok(Wanted::Glob(pattern, wanted.len())),
            Err(error) => Err(Error::failed(
                format!("{} is no pattern", escape::terminal(name)),
                error.msg,
                "* stands for any letters but a dot, ? for one: --func 'service.*'",
            )
            .with_exit(Exit::Usage)),
        }
    }

    fn matches(&self, parts: &[String]) -> bool {
        match self {
            Wanted::End(wanted) => parts.ends_with(wanted),
            Wanted::Glob(pattern, length) => match parts.len().checked_sub(*length) {
                Some(skipped) => pattern.matches_with(&parts[skipped..].join("/"), BY_COMPONENT),
                None => false,
            },
        }
    }
}

/// `outer.<locals>.inner` is `outer.inner`: what a person would type.
fn split(name: &str) -> Vec<String> {
    let parts = name.split('.').filter(|part| *part != "<locals>");
    parts.map(str::to_owned).collect()
}

/// `/srv/app/__init__.py` and `View.get` → srv, app, View, get.
fn parts(key: &FunctionKey<'_>) -> Vec<String> {
    // A module in the interpreter itself: `<frozen importlib._bootstrap>`.
    let frozen = key.file.strip_prefix("<frozen ");
    if let Some(module) = frozen.and_then(|rest| rest.strip_suffix('>')) {
        return [split(module), split(key.function)].concat();
    }
    let path = Path::new(key.file);
    let path = match path.extension() {
        Some(extension) if extension == "py" => path.with_extension(""),
        _ => path.to_owned(),
    };
    let folders = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    let mut parts: Vec<String> = folders.collect();
    parts.pop_if(|name| name == "__init__");
    parts.extend(split(key.function));
    parts
}

/// The module and the qualified name, safe to show.
fn short(parts: &[String]) -> String {
    // Two components: enough to tell functions of one name apart, most times.
    let name = parts[parts.len().saturating_sub(2)..].join(".");
    escape::terminal(&name).into_owned()
}

/// From 0 to 1: how alike the name is to the end of the parts that is as long.
fn likeness(wanted: &[String], parts: &[String]) -> f64 {
    let end = |length: usize| {
        parts[parts.len().saturating_sub(length)..]
            .join(".")
            .to_lowercase()
    };
    let wanted_text = wanted.join(".").to_lowercase();
    strsim::jaro_winkler(&wanted_text, &end(wanted.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(name: &str, file: &str, function: &str) -> bool {
        let key = FunctionKey {
            function,
            file,
            line: 1,
        };
        let wanted = Wanted::new(name).unwrap_or_else(|error| panic!("{error}"));
        wanted.matches(&parts(&key))
    }

    #[test]
    fn a_name_is_the_end_of_the_dotted_path() {
        let (file, function) = ("/srv/app/views.py", "Index.get");
        for name in ["get", "Index.get", "views.Index.get", "app.views.Index.get"] {
            assert!(matches(name, file, function), "{name}");
        }
        for name in [
            "et",
            "Index",
            "ndex.get",
            "views.get",
            "",
            "x.srv.app.views.Index.get",
        ] {
            assert!(!matches(name, file, function), "{name}");
        }
        assert!(matches("app.f", "/srv/app/__init__.py", "f"));
        assert!(matches("f.g", "x.py", "f.<locals>.g"));
        assert!(matches("f.<locals>.g", "x.py", "f.<locals>.g"));
        assert!(matches("x.<lambda>", "x.py", "<lambda>"));
        assert!(matches("<string>.f", "<string>", "f"));
        assert!(matches("a.b.f", "<frozen a.b>", "f"));
    }

    #[test]
    fn a_star_stays_in_its_component() {
        assert!(matches("views.*", "/srv/views.py", "get"));
        assert!(!matches("views.*", "/srv/views.py", "Index.get"));
        assert!(matches("views.*.get", "/srv/views.py", "Index.get"));
        assert!(matches("g?t", "/srv/views.py", "Index.get"));
        assert!(!matches("s*", "/srv/views.py", "Index.get"));
        let error = Wanted::new("a**").err().map(|error| error.exit);
        assert_eq!(error, Some(Exit::Usage));
    }
}
