//! The words that the engine says, each one token, with their JSON forms rendered once.

use std::sync::OnceLock;

/// Tokens as tokenizers make them: most begin with a space; some need several bytes of UTF-8, some an escape in JSON.
const WORDS: [&str; 48] = [
    " the",
    " of",
    " and",
    " a",
    " time",
    " is",
    " to",
    " in",
    " engine",
    " answer",
    ".",
    ",",
    " café",
    " naïve",
    " Zürich",
    " señor",
    " über",
    "漢字",
    " 日本語",
    "こんにちは",
    "한국어",
    " привет",
    " γειά",
    " שלום",
    " 🙂",
    "👩‍🚀",
    "🚀",
    " \"quoted\"",
    "\"",
    "\n",
    "\n\n",
    "\t",
    "\\",
    " C:\\tmp",
    " <b>",
    "</b>",
    " &",
    " a<b>c",
    " x && y",
    "{",
    "}",
    " [1]",
    ": ",
    "'s",
    " data: ",
    " —",
    "…",
    "0",
];

/// One token's text as it stands inside a JSON string.
struct Entry {
    plain: String,
    html: String,
}

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        WORDS
            .iter()
            .map(|word| {
                let plain = escape(word, false);
                Entry { html: escape_html(&plain), plain }
            })
            .collect()
    })
}

/// Return `text` as the inside of a JSON string; with `html`, as Go's encoder writes it.
pub(crate) fn escape(text: &str, html: bool) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inside =
        quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    if html { escape_html(inside) } else { inside.to_owned() }
}

fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Return a well-mixed number, the same for the same arguments (SplitMix64).
pub(crate) fn mix(seed: u64, position: u64) -> u64 {
    let mut z = seed.wrapping_add(position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Append the tokens `range` of the text that `seed` decides, escaped for JSON.
pub(crate) fn push_tokens(out: &mut String, seed: u64, range: std::ops::Range<u32>, html: bool) {
    let entries = entries();
    let count = entries.len() as u64;
    for index in range {
        let Some(entry) = entries.get((mix(seed, u64::from(index)) % count) as usize) else {
            continue;
        };
        out.push_str(if html { &entry.html } else { &entry.plain });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_decode_to_the_same_text() {
        let (mut plain, mut html) = (String::new(), String::new());
        push_tokens(&mut plain, 7, 0..500, false);
        push_tokens(&mut html, 7, 0..500, true);
        let decode = |json: &str| serde_json::from_str::<String>(&format!("\"{json}\"")).unwrap();
        assert_eq!(decode(&plain), decode(&html));
        assert!(plain.contains('<') && !html.contains(['<', '>', '&']));
    }

    #[test]
    fn every_word_is_said() {
        let mut said = String::new();
        push_tokens(&mut said, 0, 0..2000, false);
        for word in WORDS {
            assert!(said.contains(&escape(word, false)), "{word:?} is never said");
        }
    }
}
