//! No file of a crate needs another one that needs it: the imports between the files of a crate have no circle.
//!
//! Read from the sources with `syn`: `use` declarations and paths that begin with `crate`, `super` or `self`, outside of tests. A
//! name that a file passes on (`pub use`) counts for the file that it comes from. What a method's receiver needs is not seen, nor
//! what stands inside macros.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A module's path in its crate; the crate's root is empty.
type Module = Vec<String>;
/// Where a path leads: the file, and what is named in it.
type Place = (Module, Vec<String>);
/// Who needs whom.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// A path as it is written in a module.
struct Named {
    path: Vec<String>,
    /// It is passed on under this name.
    passed_on: Option<String>,
}

/// The paths of one file.
struct Paths(Vec<Named>);

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn spread(tree: &UseTree, before: &[String], is_public: bool, found: &mut Vec<Named>) {
    let with = |name: &str| [before, &[name.to_owned()]].concat();
    let mut end = |path: Vec<String>, name: String| found.push(Named { path, passed_on: is_public.then_some(name) });
    match tree {
        UseTree::Path(path) => spread(&path.tree, &with(&path.ident.to_string()), is_public, found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| spread(tree, before, is_public, found)),
        UseTree::Name(name) if name.ident == "self" => end(before.to_vec(), before.last().cloned().unwrap_or_default()),
        UseTree::Name(name) => end(with(&name.ident.to_string()), name.ident.to_string()),
        UseTree::Rename(renamed) => end(with(&renamed.ident.to_string()), renamed.rename.to_string()),
        UseTree::Glob(_) => end(before.to_vec(), String::new()),
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            spread(&item.tree, &[], !matches!(item.vis, Visibility::Inherited), &mut self.0);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    /// `pub(super)` needs nobody.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let path_of = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.0.push(Named { path: path_of, passed_on: None });
        visit::visit_path(self, path);
    }
}

/// The files of a crate: module, text.
fn files_of(root: &Path) -> BTreeMap<Module, String> {
    let mut sources = Vec::new();
    super::sources_below(root, &mut sources);
    let module_of = |source: &Path| {
        let inside = source.strip_prefix(root).unwrap().with_extension("");
        let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        module.pop_if(|last| last == "mod");
        if module == ["lib"] || module == ["main"] { Vec::new() } else { module }
    };
    sources.iter().map(|source| (module_of(source), fs::read_to_string(source).unwrap())).collect()
}

/// The file that `path` leads to from `module`, and what is named in it; nothing for what is not of this crate.
fn resolve(files: &BTreeSet<Module>, module: &Module, path: &[String]) -> Option<Place> {
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => (module[..module.len().saturating_sub(1)].to_vec(), &path[1..]),
        first if files.contains(&[&module[..], &[first.to_owned()]].concat()) => (module.clone(), path),
        _ => return None,
    };
    while rest.first().is_some_and(|part| part == "super") {
        at.pop();
        rest = &rest[1..];
    }
    while let Some(part) = rest.first() {
        let inner = [&at[..], std::slice::from_ref(part)].concat();
        if !files.contains(&inner) {
            break;
        }
        (at, rest) = (inner, &rest[1..]);
    }
    Some((at, rest.to_vec()))
}

fn graph_of(texts: &BTreeMap<Module, String>) -> Graph {
    let parsed: BTreeMap<&Module, syn::File> = texts
        .iter()
        .map(|(module, text)| (module, syn::parse_file(text).unwrap_or_else(|error| panic!("{module:?}: {error}"))))
        .collect();
    // Files of tests are declared so by who holds them.
    let mut of_tests: BTreeSet<Module> = BTreeSet::new();
    for (module, file) in &parsed {
        for item in &file.items {
            if let Item::Mod(inner) = item
                && is_for_tests(&inner.attrs)
            {
                of_tests.insert([&module[..], &[inner.ident.to_string()]].concat());
            }
        }
    }
    let is_of_tests = |module: &Module| of_tests.iter().any(|test| module.starts_with(test));
    let files: BTreeSet<Module> = texts.keys().filter(|module| !is_of_tests(module)).cloned().collect();
    let mut named: BTreeMap<&Module, Vec<(Place, bool)>> = BTreeMap::new();
    let mut passed_on: BTreeMap<(Module, String), Place> = BTreeMap::new();
    for (module, file) in parsed.iter().filter(|(module, _)| files.contains(**module)) {
        let mut paths = Paths(Vec::new());
        paths.visit_file(file);
        for Named { path, passed_on: name } in paths.0 {
            let Some((found, rest)) = resolve(&files, module, &path) else { continue };
            let is_passed_on = name.is_some();
            if let Some(name) = name {
                passed_on.insert(((*module).clone(), name), (found.clone(), rest.clone()));
            }
            named.entry(module).or_default().push(((found, rest), is_passed_on));
        }
    }
    let mut graph = Graph::new();
    for (module, found) in named {
        for ((mut at, mut rest), is_passed_on) in found {
            let mut seen = BTreeSet::new();
            while let Some(name) = rest.first()
                && seen.insert((at.clone(), name.clone()))
                && let Some((origin, origin_rest)) = passed_on.get(&(at.clone(), name.clone()))
            {
                (at, rest) = (origin.clone(), origin_rest.last().cloned().into_iter().collect());
            }
            // Who passes on what its own parts make needs nothing of them.
            let is_its_own_part = is_passed_on && at.starts_with(module);
            if at != *module && !is_its_own_part {
                graph.entry(module.clone()).or_default().insert(at);
            }
        }
    }
    graph
}

/// The groups of files of which each needs all others.
fn circles(graph: &Graph) -> Vec<BTreeSet<Module>> {
    let arrows = graph.iter().flat_map(|(module, others)| others.iter().map(move |other| (module, other, ())));
    let arrows: DiGraphMap<&Module, ()> = DiGraphMap::from_edges(arrows);
    let groups = tarjan_scc(&arrows);
    groups.into_iter().filter(|group| group.len() > 1).map(|group| group.into_iter().cloned().collect()).collect()
}

/// One circle in a line for people: who is in it, and who needs whom.
fn shown(circle: &BTreeSet<Module>, graph: &Graph) -> String {
    let name = |module: &Module| if module.is_empty() { "the root".to_owned() } else { module.join("::") };
    let mut arrows = Vec::new();
    for module in circle {
        arrows.extend(graph[module].intersection(circle).map(|other| format!("{} → {}", name(module), name(other))));
    }
    arrows.join(", ")
}

/// Folders whose circles are not open yet, with how many they may have.
const NOT_OPEN_YET: [(&str, usize); 1] = [("src", 1)];

#[test]
fn the_files_of_a_crate_need_each_other_in_no_circle() {
    let mut faults = Vec::new();
    let folders =
        super::SERVICES.into_iter().chain(["actors/runtime", "actors/contracts", "bridge", "http-edge", "benches"]);
    for folder in folders.map(|folder| format!("{folder}/src")).chain(["src".to_owned()]) {
        let graph = graph_of(&files_of(&super::house().join(&folder)));
        let found = circles(&graph);
        let allowed = NOT_OPEN_YET.iter().find(|(name, _)| *name == folder).map_or(0, |(_, count)| *count);
        if found.len() > allowed {
            faults.extend(found.iter().map(|circle| format!("{folder}: {}", shown(circle, &graph))));
        }
        assert!(found.len() >= allowed, "{folder} has fewer circles than it may: lower the number");
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_judge_sees_a_circle_also_through_a_name_that_is_passed_on() {
    let circles_of = |files: &[(&str, &str)]| {
        let module = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let texts = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        circles(&graph_of(&texts)).len()
    };
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "use crate::a::A;")]), 1);
    assert_eq!(circles_of(&[("a", "fn f() { crate::b::g() }"), ("b", "use super::a;")]), 1);
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "struct B;")]), 0);
    // Through the root, which passes it on.
    assert_eq!(
        circles_of(&[("", "pub use a::A; mod a; mod b;"), ("a", "use crate::b::B;"), ("b", "use crate::A;")]),
        1
    );
    // Who passes on its own parts needs none of them; who uses them does.
    assert_eq!(circles_of(&[("a", "mod b; pub use b::B;"), ("a/b", "use super::X;")]), 0);
    assert_eq!(circles_of(&[("a", "mod b; use b::B;"), ("a/b", "use super::X;")]), 1);
    // Tests may use what they like.
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "#[cfg(test)] mod tests { use crate::a::A; }")]), 0);
    assert_eq!(
        circles_of(&[
            ("a", "#[cfg(test)] mod tests;"),
            ("a/tests", "use super::A; use crate::b;"),
            ("b", "use crate::a::A;")
        ]),
        0
    );
}
