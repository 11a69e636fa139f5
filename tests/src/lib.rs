//! What the tests that cross crates share: building artifacts and finding them.
