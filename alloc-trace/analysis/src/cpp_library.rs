//! Which code is C++'s standard library, by the names of functions and of source files.
//!
//! It is mostly templates, compiled into the program that uses them: no shared object tells whose they are.
//! A lambda or a type that such a template works on stands within its name, and is the program's all the
//! same: only what a name begins with says whose it is, and a return type before it does not.

/// The namespaces of the two common implementations and of what they call.
const NAMESPACES: [&str; 3] = ["std::", "__gnu_cxx::", "__cxxabiv1::"];

/// How these begin in a mangled name: `std`, its abbreviated classes, and the others.
const MANGLED_NAMESPACES: [&str; 9] =
    ["St", "Sa", "Sb", "Ss", "Si", "So", "Sd", "9__gnu_cxx", "10__cxxabiv1"];

/// Where the sources of the library itself lie: what a static program contains.
const SOURCES: [&str; 5] =
    ["/libstdc++-v3/", "/libstdc++/", "/libcxx/include/", "/libcxx/src/", "/libcxxabi/src/"];

/// Whether a source file is one of the library's, headers included.
pub(crate) fn is_source(file: &str) -> bool {
    // `/usr/include/c++/12`, `/usr/include/x86_64-linux-gnu/c++/12`, `/usr/lib/llvm-16/include/c++/v1`.
    let is_header = |(_, path): (&str, &str)| {
        path.starts_with("c++/") || path.starts_with("g++-v") || path.contains("/c++/")
    };
    file.split_once("/include/").is_some_and(is_header)
        || SOURCES.iter().any(|root| file.contains(root))
}

/// Whether a function is one of the library's, by its name, demangled or not.
pub(crate) fn is_function(function: &str) -> bool {
    match function.strip_prefix("_Z") {
        Some(mangled) => {
            // What is local to a function, in a scope, of a `const` object or of `&`, `&&`.
            let scope = mangled.trim_start_matches(['Z', 'N', 'r', 'V', 'K', 'R', 'O']);
            MANGLED_NAMESPACES.iter().any(|namespace| scope.starts_with(namespace))
        }
        None => qualified_name(function)
            .is_some_and(|name| NAMESPACES.iter().any(|namespace| name.starts_with(namespace))),
    }
}

/// The name of a C++ function, without a return type before it and without what follows: `None` where no
/// arguments follow, as in the names of other languages.
///
/// Of what is local to a function it is the function's.
pub(crate) fn qualified_name(function: &str) -> Option<&str> {
    let bytes = function.as_bytes();
    let (mut start, mut depth, mut previous) = (0, 0_usize, b' ');
    for (index, &byte) in bytes.iter().enumerate() {
        let begins_word = index == start || previous == b':';
        if depth == 0 && begins_word && is_operator(&bytes[index..]) {
            return Some(&function[start..]);
        }
        match byte {
            b'(' if depth == 0 && index > start && previous != b':' => {
                let name = &function[start..index];
                if name != "decltype" {
                    return Some(name);
                }
                depth += 1;
            }
            b'(' | b'<' | b'[' | b'{' => depth += 1,
            b'>' if previous == b'-' => {}
            b')' | b'>' | b']' | b'}' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 => start = index + 1,
            _ => {}
        }
        previous = byte;
    }
    None
}

/// Whether this begins with the word `operator`, behind which brackets mean something else.
fn is_operator(text: &[u8]) -> bool {
    let after = text.strip_prefix(b"operator");
    after.is_some_and(|after| {
        after.first().is_some_and(|c| !c.is_ascii_alphanumeric() && *c != b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_begins_with_says_whose_a_function_is() {
        for name in [
            "std::__new_allocator<char>::allocate(unsigned long, void const*)",
            "std::__cxx11::basic_string<char>::_M_create(unsigned long&, unsigned long)",
            "std::__1::vector<int, std::__1::allocator<int> >::push_back(int&&)",
            "void std::vector<app::Tree>::_M_realloc_insert<app::Tree>(app::Tree&&)",
            "std::shared_ptr<app::Tree> std::make_shared<app::Tree, int>(int&&)",
            "unsigned long std::__count<app::Tree*>(app::Tree*)",
            "decltype (::new ((void*)(0)) app::Tree((declval<app::Tree const&>)())) \
             std::construct_at<app::Tree>(app::Tree*, app::Tree const&)",
            "decltype(auto) std::forward<app::Tree>(app::Tree&)",
            "std::_Function_handler<int (int), app::run()::{lambda(int)#1}>::_M_manager(int)",
            "std::function<void ()>::operator()() const",
            "bool std::operator< <app::Tree>(app::Tree const&, app::Tree const&)",
            "std::ostream& std::operator<< <std::char_traits<char> >(std::ostream&, char const*)",
            "std::thread::_M_run()::{lambda()#1}::operator()() const",
            "__gnu_cxx::new_allocator<int>::allocate(unsigned long, void const*)",
            "__cxxabiv1::__cxa_allocate(int)",
            "_ZNKSt14default_deleteIA_cEclIcEENSt9enable_ifIXsrSt14is_convertibleE",
            "_ZSt4sortIPiEvT_S1_",
            "_ZNSs4_Rep9_S_createEmmRKSaIcE",
            "_ZN9__gnu_cxx13new_allocatorIcE8allocateEmPKv",
            "_ZZNSt4once4callEvENKUlvE_clEv",
        ] {
            assert!(is_function(name), "{name}");
        }
        for name in [
            "app::run(std::vector<int>)",
            "std::vector<int> app::run(int)",
            "std::unique_ptr<app::Tree> (anonymous namespace)::make<app::Tree>(int)",
            "(anonymous namespace)::Tree::grow(std::string const&)",
            "app::run()::{lambda(std::string)#1}::operator()(std::string) const",
            "app::Tree::operator std::string() const",
            "std::ostream& operator<<(std::ostream&, app::Tree const&)",
            "void (*app::handler<int>(std::string))(int)",
            "stdlike::run(int)",
            "operators::std::run(int)",
            "main",
            "_ZN3app3runESt6vectorIiE",
            "_Z3runSt6vectorIiE",
        ] {
            assert!(!is_function(name), "{name}");
        }
    }

    #[test]
    fn headers_and_the_library_s_own_sources_are_told() {
        for file in [
            "/usr/include/c++/12/bits/new_allocator.h",
            "/usr/include/x86_64-linux-gnu/c++/12/bits/gthr-default.h",
            "/usr/lib/gcc/x86_64-pc-linux-gnu/12/include/g++-v12/bits/stl_vector.h",
            "/usr/lib/llvm-16/include/c++/v1/string",
            "/opt/sdk/sysroot/usr/include/c++/v1/__memory/allocator.h",
            "/build/gcc-12/src/libstdc++-v3/src/c++11/string-inst.cc",
        ] {
            assert!(is_source(file), "{file}");
        }
        for file in [
            "/home/me/app/src/a.cpp",
            "/home/me/c++/src/a.cpp",
            "/home/me/app/include/app/tree.hpp",
            "/usr/include/boost/container/vector.hpp",
        ] {
            assert!(!is_source(file), "{file}");
        }
    }
}
