//! What the feature `hardened` adds. In the ordinary build a module of the same name below `plain` stands
//! in each one's place, whose functions are empty or hand their argument back, so that the build has not an
//! instruction of it.
//!
//! The ordinary heap keeps no links in blocks, so there are none that a stray write could bend, and it
//! finds a block that was freed twice when the block goes back to its page. Beside that there are:
//!
//! | module | what it adds | rests on |
//! |---|---|---|
//! | [`custody`] | each block that is freed or handed out is looked up | `page`, `marks`, `scrub` |
//! | [`marks`] | which blocks of a page the program has | |
//! | [`scrub`] | freed blocks are cleared, and found so | |
//! | [`secret`] | cached pointers are encoded, the order of blocks is random | `os` |
//! | [`guards`] | inaccessible memory around segments and huge blocks | `os` |
//!
//! All but `custody` know nothing of pages, which rest on them in turn.

/// Whether this is the hardened build.
pub(crate) const IS_HARDENED: bool = cfg!(feature = "hardened");

#[cfg_attr(not(feature = "hardened"), path = "plain/custody.rs")]
pub(crate) mod custody;
#[cfg_attr(not(feature = "hardened"), path = "plain/guards.rs")]
pub(crate) mod guards;
#[cfg_attr(not(feature = "hardened"), path = "plain/marks.rs")]
pub(crate) mod marks;
#[cfg_attr(not(feature = "hardened"), path = "plain/scrub.rs")]
pub(crate) mod scrub;
#[cfg_attr(not(feature = "hardened"), path = "plain/secret.rs")]
pub(crate) mod secret;
