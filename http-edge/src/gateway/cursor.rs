//! Where a page of orders begins: opaque to clients, and good only for the list that gave it.
//!
//! It is the sort key and the id of the last order shown, and a hash of the filters, in hexadecimal.

use contracts::{OrderId, Timestamp};
use sha2::{Digest, Sha256};

/// Longest cursor looked at, in characters: twice the longest text inside.
pub(super) const CURSOR_LEN_MAX: usize = 250;

/// The cursor after an order.
pub(super) fn encode((created_at, order_id): &(Timestamp, OrderId), filters: &[&str]) -> String {
    let text = format!("{}.{}.{order_id}", hash(filters), created_at.as_millis());
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a cursor; `None` where it is none of this list.
pub(super) fn decode(cursor: &str, filters: &[&str]) -> Option<(Timestamp, OrderId)> {
    let bytes: Option<Vec<u8>> =
        cursor.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let text = String::from_utf8(bytes?).ok()?;
    let mut parts = text.splitn(3, '.');
    if parts.next()? != hash(filters) {
        return None;
    }
    let created_at = Timestamp::from_millis(parts.next()?.parse().ok()?);
    Some((created_at, OrderId::parse(parts.next()?).ok()?))
}

fn hash(filters: &[&str]) -> String {
    let digest = Sha256::digest(filters.join("\n"));
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_alone() {
        let last = (Timestamp::from_millis(1_700_000_000_123), OrderId::generate());
        let cursor = encode(&last, &["usr_1", "paid"]);
        assert!(cursor.len() <= CURSOR_LEN_MAX && cursor.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(decode(&cursor, &["usr_1", "paid"]), Some(last));
        assert_eq!(decode(&cursor, &["usr_1", ""]), None);
        assert_eq!(decode(&cursor, &["usr_2", "paid"]), None);
        assert_eq!(decode(&cursor[1..], &["usr_1", "paid"]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = decode(&text, &[]);
        }
    }
}
