//! Where a page of users begins: opaque to clients, and good only for that list. It is the id of the last user shown behind the
//! name of the list, in hexadecimal.

use contracts::UserId;

/// Longest cursor looked at, in characters: twice the longest text inside.
pub(super) const CURSOR_LEN_MAX: usize = 160;
/// What stands first in a cursor of this list.
const LIST: &str = "users.";

/// The cursor after a user.
pub(super) fn encode(user_id: &UserId) -> String {
    format!("{LIST}{user_id}").bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a cursor; `None` where it is none of this list.
pub(super) fn decode(cursor: &str) -> Option<UserId> {
    let bytes: Option<Vec<u8>> =
        cursor.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    UserId::parse(String::from_utf8(bytes?).ok()?.strip_prefix(LIST)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let user_id = UserId::parse(&format!("usr_{}", "x".repeat(64))).unwrap();
        let cursor = encode(&user_id);
        assert!(cursor.len() <= CURSOR_LEN_MAX);
        assert_eq!(decode(&cursor), Some(user_id));
        for wrong in ["", "zz", &cursor[2..], "é", "7573"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
