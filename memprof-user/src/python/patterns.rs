//! Which functions a name of the user's means: `module.qualname`, the end of it, or a glob.

use glob::{MatchOptions, Pattern as Glob};

/// `*` does not go beyond a dot. Dots are written `/`, which no name has.
const BY_PART: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// How well a name fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// A bare name, and a function of an installed package: the program's own go before it.
    Installed,
    /// The end of it, or a glob: others may fit as well.
    Part,
    /// The whole of it.
    Whole,
}

/// A name of the user's.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    text: String,
    glob: Option<Glob>,
}

/// What a function is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Naming {
    /// `__module__`, where it is known.
    pub module: Option<String>,
    /// `__qualname__`; the bare name where the version keeps no other.
    pub qualname: String,
    /// The source file.
    pub file: String,
}

/// How CPython marks what is local to a function in a qualified name.
const LOCALS: &str = "<locals>.";

impl Pattern {
    /// Takes what was typed. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_whitespace) {
            return Err("not a function's name, as in module.Class.method".to_owned());
        }
        let glob = match text.contains(['*', '?', '[']) {
            true => {
                Some(Glob::new(&text.replace('.', "/")).map_err(|e| format!("not a glob: {e}"))?)
            }
            false => None,
        };
        Ok(Pattern {
            text: text.replace(LOCALS, ""),
            glob,
        })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A glob may fit any number of functions.
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// It names a module, or a class, not just a function.
    fn is_qualified(&self) -> bool {
        let literal = self.text.split(['*', '?', '[']).next().unwrap_or_default();
        literal.contains('.')
    }

    /// How the last part of each name that it means begins and how it ends; None: it is the first
    /// of the two, whole. Others may begin and end so.
    pub fn last_part(&self) -> (&str, Option<&str>) {
        let last = self.text.rsplit('.').next().unwrap_or_default();
        if self.glob.is_none() {
            return (last, None);
        }
        // A dot may stand in brackets.
        let begin = match self.text.contains('[') {
            true => "",
            false => last.split(['*', '?']).next().unwrap_or_default(),
        };
        let end = last.rsplit(['*', '?', ']']).next().unwrap_or_default();
        match end.len() < last.len() {
            true => (begin, Some(end)),
            // Only parts before it are open.
            false => (last, None),
        }
    }

    /// Whether it means this function. A bare name means none of the interpreter's own library.
    pub fn fit(&self, function: &Naming) -> Option<Fit> {
        let is_bare = !self.is_qualified();
        if is_bare && function.is_of_library() {
            return None;
        }
        let names = function.dotted().into_iter();
        let fits = names.filter_map(|name| self.fit_one(&name));
        let fit = fits.max()?;
        match is_bare && function.is_installed() {
            true => Some(Fit::Installed),
            false => Some(fit),
        }
    }

    fn fit_one(&self, name: &str) -> Option<Fit> {
        if let Some(glob) = &self.glob {
            let parts = self.text.split('.').count();
            let end = ends(name).find(|end| end.split('.').count() == parts)?;
            let fits = glob.matches_with(&end.replace('.', "/"), BY_PART);
            return fits.then_some(Fit::Part);
        }
        if name == self.text {
            return Some(Fit::Whole);
        }
        let before = name.strip_suffix(&self.text)?;
        before.ends_with('.').then_some(Fit::Part)
    }
}

/// A name, and what is left of it without its first parts.
fn ends(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(at, _)| at + 1);
    std::iter::once(0).chain(dots).map(|at| &name[at..])
}

impl Naming {
    /// `module.qualname`, for people.
    pub fn display(&self) -> String {
        match &self.module {
            Some(module) => format!("{module}.{}", self.qualname),
            None => format!("{}.{}", module_of(&self.file), self.qualname),
        }
    }

    /// The other one knows the module, and this one does not.
    pub fn says_less_than(&self, other: &Naming) -> bool {
        self.module.is_none() && other.module.is_some()
    }

    /// It comes with the interpreter.
    fn is_of_library(&self) -> bool {
        self.file.starts_with("<frozen ")
            || (self.file.contains("/lib/python3") && !self.is_installed())
    }

    /// It comes with a package that was installed.
    fn is_installed(&self) -> bool {
        let folders = ["/site-packages/", "/dist-packages/"];
        folders.iter().any(|folder| self.file.contains(folder))
    }

    /// Everything it may be called: by its module, and by its file, which a script's functions
    /// (`__main__`) are better known by.
    fn dotted(&self) -> Vec<String> {
        let qualname = self.qualname.replace(LOCALS, "");
        let modules = [self.module.clone(), Some(path_of(&self.file))];
        let named = modules.into_iter().flatten();
        named.map(|module| format!("{module}.{qualname}")).collect()
    }
}

/// A file as a module would be called if its path were one.
fn path_of(file: &str) -> String {
    let bare = file.strip_suffix(".py").unwrap_or(file);
    let bare = bare.strip_suffix("/__init__").unwrap_or(bare);
    bare.trim_matches('/').replace('/', ".")
}

/// The last part of that.
fn module_of(file: &str) -> String {
    let path = path_of(file);
    path.rsplit('.').next().unwrap_or_default().to_owned()
}

/// The names that are nearest to one that does not exist, best first.
pub fn nearest<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| (likeness(wanted, name), name))
        // Below this two names have little in common.
        .filter(|(score, _)| *score > 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored
        .into_iter()
        .take(count)
        .map(|(_, name)| name)
        .collect()
}

/// How much two names are alike, from 0 to 1: as much as their last parts, so many as fit best.
fn likeness(wanted: &str, name: &str) -> f64 {
    let parts = wanted.split('.').count();
    let pairs = ends(wanted).filter_map(|end| {
        let count = end.split('.').count();
        let other = ends(name).find(|other| other.split('.').count() == count)?;
        // A part that is left out counts a little.
        let weight = 1.0 - 0.1 * (parts - count) as f64 / parts as f64;
        Some(strsim::jaro_winkler(end, other) * weight)
    });
    pairs.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(module: Option<&str>, qualname: &str, file: &str) -> Naming {
        Naming {
            module: module.map(str::to_owned),
            qualname: qualname.to_owned(),
            file: file.to_owned(),
        }
    }

    fn fit(pattern: &str, function: &Naming) -> Option<Fit> {
        Pattern::parse(pattern).unwrap().fit(function)
    }

    #[test]
    fn a_name_is_whole_or_the_end_of_one() {
        let load = naming(Some("app.store"), "Store.load", "/srv/app/store.py");
        assert_eq!(fit("app.store.Store.load", &load), Some(Fit::Whole));
        for part in [
            "Store.load",
            "load",
            "store.Store.load",
            "l?ad",
            "*.load",
            "app.*.*.*",
            "St*e.*",
        ] {
            assert_eq!(fit(part, &load), Some(Fit::Part), "{part}");
        }
        // A glob's parts are so many as its dots say.
        for glob in ["app.*", "srv*", "L?ad", "store.*"] {
            assert_eq!(fit(glob, &load), None, "{glob}");
        }
        for other in ["oad", "Store", "app.store", "app.store.load", "x.load"] {
            assert_eq!(fit(other, &load), None, "{other}");
        }
    }

    #[test]
    fn a_script_and_a_code_object_are_known_by_their_files() {
        let main = naming(Some("__main__"), "work", "/srv/batch.py");
        assert_eq!(fit("batch.work", &main), Some(Fit::Part));
        assert_eq!(fit("__main__.work", &main), Some(Fit::Whole));
        let code = naming(None, "work", "/srv/app/__init__.py");
        assert_eq!(fit("app.work", &code), Some(Fit::Part));
        assert_eq!(code.display(), "app.work");
    }

    #[test]
    fn a_bare_name_is_of_the_program() {
        let of_site = naming(Some("site"), "main", "/usr/lib/python3.11/site.py");
        let installed = "/usr/lib/python3.11/site-packages/app/cli.py";
        let of_app = naming(Some("app.cli"), "main", installed);
        for (pattern, site, app) in [
            ("main", false, true),
            ("*main", false, true),
            ("site.main", true, false),
            ("site.*", true, false),
        ] {
            assert_eq!(fit(pattern, &of_site).is_some(), site, "{pattern}");
            assert_eq!(fit(pattern, &of_app).is_some(), app, "{pattern}");
        }
        let own = naming(Some("app"), "main", "/srv/app.py");
        assert!(fit("main", &of_app) < fit("main", &own));
        assert_eq!(fit("cli.main", &of_app), Some(Fit::Part));
    }

    #[test]
    fn the_last_part_says_how_names_begin_and_end() {
        for (text, expected) in [
            ("app.Store.load", ("load", None)),
            ("load", ("load", None)),
            ("app.*.load", ("load", None)),
            ("app.lo*d_?x", ("lo", Some("x"))),
            ("*", ("", Some(""))),
            ("app.[a.z]x", ("", Some("x"))),
            ("app.[az]", ("", Some(""))),
            ("load_[a-z]", ("", Some(""))),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!(pattern.last_part(), expected, "{text}");
        }
    }

    #[test]
    fn locals_need_not_be_typed() {
        let inner = naming(Some("app"), "outer.<locals>.inner", "/app.py");
        assert_eq!(fit("outer.inner", &inner), Some(Fit::Part));
        assert_eq!(fit("app.outer.<locals>.inner", &inner), Some(Fit::Whole));
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        assert!(Pattern::parse("").is_err() && Pattern::parse("a b").is_err());
        assert!(Pattern::parse("a[").is_err());
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["app.handle", "app.handler", "json.loads", "app.render"];
        let found = nearest("app.hanlde", names.into_iter(), 2);
        assert_eq!(found, ["app.handle", "app.handler"]);
        assert_eq!(nearest("other.rendr", names.into_iter(), 1), ["app.render"]);
        assert!(nearest("zzz", names.into_iter(), 2).is_empty());
    }
}
