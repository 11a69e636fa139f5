//! Demangled names, whole and shortened.

/// Demangles a Rust or a C++ name; any other stays as it is.
pub(super) fn demangle(mangled: &str) -> String {
    if let Ok(name) = rustc_demangle::try_demangle(mangled) {
        return format!("{name:#}");
    }
    if mangled.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(mangled)
        && let Ok(name) = symbol.demangle()
    {
        return name;
    }
    if let Some(name) = cpp_name_alone(mangled) {
        return name;
    }
    // A version, as in `malloc@@GLIBC_2.2.5`, says nothing about the call site.
    mangled.split('@').next().unwrap_or(mangled).to_owned()
}

/// The name of a C++ function whose return type or arguments cannot be read, without these.
fn cpp_name_alone(mangled: &str) -> Option<String> {
    /// Each of its parts is tried, so that longer names would take long. Few are.
    const MOST_BYTES: usize = 8 << 10;
    let is_nested = mangled.starts_with("_ZN") && mangled.len() <= MOST_BYTES && mangled.is_ascii();
    let nested = is_nested.then_some(mangled)?;
    // A nested name ends in an `E`, and the first one that leaves a whole name is its own.
    nested.match_indices('E').find_map(|(index, _)| {
        let name = cpp_demangle::Symbol::new(&nested[..=index]).ok()?;
        name.demangle().ok()
    })
}

/// Shortens a function's name to at most `columns` characters for a person to read: first generic
/// arguments go, then the outer modules, then the word `closure`, in the end whatever is left over. The function
/// that a closure is in stays.
///
/// ```
/// use alloc_trace_analysis::shorten;
///
/// let name = "app::cache::Cache<alloc::string::String, u64>::insert";
/// assert_eq!(shorten(name, 80), "app::cache::Cache::insert");
/// assert_eq!(shorten(name, 15), "…Cache::insert");
/// assert_eq!(shorten("app::request::{{closure}}::{{closure}}", 20), "…request::{{}}::{{}}");
/// assert_eq!(shorten("<app::Tree as core::clone::Clone>::clone", 80), "<app::Tree as Clone>::clone");
/// ```
#[must_use]
pub fn shorten(name: &str, columns: usize) -> String {
    let plain = without_generics(name);
    let length = plain.chars().count();
    if length <= columns {
        return plain;
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    if let Some(rest) = last_names(&plain, room) {
        return format!("…{rest}");
    }
    let plain = plain.replace("{{closure}}", "{{}}").replace("{closure#", "{#");
    let length = plain.chars().count();
    if length <= columns {
        return plain;
    }
    match last_names(&plain, room) {
        Some(rest) => format!("…{rest}"),
        None => {
            let cut: String = plain.chars().skip(length - room).collect();
            format!("…{cut}")
        }
    }
}

/// As much of the end of a path as fits, from a `::` on, so that it is a whole path; and from a name on: what a
/// closure is called says nothing without it.
fn last_names(path: &str, columns: usize) -> Option<&str> {
    path.match_indices("::")
        .map(|(index, _)| &path[index + 2..])
        .find(|rest| rest.chars().count() <= columns && !rest.is_empty() && !rest.starts_with('{'))
}

/// Removes generic arguments, and the path of a trait in `<Type as path::Trait>`.
fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (index, c) in name.char_indices() {
        let opens_generics = c == '<' && (depth > 0 || is_name_end(previous, &out));
        if opens_generics {
            depth += 1;
        } else if c == '>' && depth > 0 && previous != '-' {
            depth -= 1;
        } else if depth == 0 {
            out.push(c);
        }
        previous = c;
        if index == 0 && c == '[' {
            return name.to_owned();
        }
    }
    // `Vec::<u8>::push` leaves four colons behind, `{closure}` and the like none.
    let out = out.replace("::::", "::");
    short_trait(&out)
}

/// Whether a `<` here follows a name, whose generic arguments it then begins.
fn is_name_end(previous: char, out: &str) -> bool {
    previous.is_alphanumeric()
        || previous == '_'
        // C++ writes `operator<`; Rust writes `name::<T>`, but `::<impl ...>` is a path of its own.
        || (previous == ':' && !out.is_empty())
}

/// `<app::Tree as core::clone::Clone>` into `<app::Tree as Clone>`.
fn short_trait(name: &str) -> String {
    let Some((before, rest)) = name.split_once(" as ") else { return name.to_owned() };
    let Some((path, after)) = rest.split_once('>') else { return name.to_owned() };
    let last = path.rsplit("::").next().unwrap_or(path);
    format!("{before} as {last}>{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_and_cpp_names_are_demangled_and_others_left() {
        assert_eq!(demangle("_ZN3app4main17h0123456789abcdefE"), "app::main");
        assert_eq!(demangle("_RNvC3app4main"), "app::main");
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("malloc@@GLIBC_2.2.5"), "malloc");
        assert_eq!(demangle("main"), "main");
    }

    #[test]
    fn of_a_cpp_function_whose_types_cannot_be_read_the_name_is() {
        let mangled = "_ZNKSt14default_deleteIA_cEclIcEENSt9enable_ifIXsrSt14is_convertibleIPA_T_PS0_E\
                       5valueEvE4typeEPS5_";
        assert_eq!(demangle(mangled), "std::default_delete<char []>::operator()<char> const");
        assert_eq!(demangle("_ZNotAName"), "_ZNotAName");
    }

    #[test]
    fn generics_go_first() {
        let cases = [
            ("alloc::vec::Vec<T,A>::push", "alloc::vec::Vec::push"),
            ("alloc::vec::Vec::<u8>::push", "alloc::vec::Vec::push"),
            ("app::run::<fn(u8) -> u8, i32>", "app::run"),
            ("app::main::{closure#0}", "app::main::{closure#0}"),
            ("<app::S<u8> as core::fmt::Display>::fmt", "<app::S as Display>::fmt"),
            ("[app+0x12]", "[app+0x12]"),
        ];
        for (name, short) in cases {
            assert_eq!(shorten(name, 80).trim_end_matches("::"), short, "{name}");
        }
    }

    #[test]
    fn the_function_that_closures_are_in_stays() {
        let cases = [
            ("asyncs::request::{{closure}}::{{closure}}", 40, "…request::{{closure}}::{{closure}}"),
            ("asyncs::request::{{closure}}::{{closure}}", 28, "asyncs::request::{{}}::{{}}"),
            ("asyncs::request::{{closure}}::{{closure}}", 24, "…request::{{}}::{{}}"),
            ("asyncs::main::{closure#0}::{closure#1}", 20, "…main::{#0}::{#1}"),
            ("asyncs::request::{{closure}}::{{closure}}", 15, "…st::{{}}::{{}}"),
        ];
        for (name, columns, short) in cases {
            assert_eq!(shorten(name, columns), short, "{columns}");
        }
    }

    #[test]
    fn no_name_is_longer_than_the_columns() {
        let names = ["app::module::very_long_function_name", "<é as 漢::T>::f", "", "::", "a"];
        for name in names {
            for columns in 0..40 {
                assert!(shorten(name, columns).chars().count() <= columns, "{name} {columns}");
            }
        }
    }
}
