//! A naive decoder of Server-Sent Events, written from WHATWG HTML, "Parsing an event stream": whole text, no offsets.

/// One block of lines up to a blank line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The last `event` field.
    pub(crate) name: Vec<u8>,
    /// All `data` fields joined by LF; `None` without any.
    pub(crate) data: Option<Vec<u8>>,
}

/// The blocks that a blank line ends, and what stands behind the last of them.
pub(crate) fn decode(stream: &[u8]) -> (Vec<Block>, Block) {
    let text = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut after_cr = false;
    for byte in text {
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            other => lines.last_mut().into_iter().for_each(|line| line.push(*other)),
        }
        after_cr = *byte == b'\r';
    }
    let unfinished = lines.pop().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut block = Block::default();
    for line in lines {
        if line.is_empty() {
            blocks.push(std::mem::take(&mut block));
        } else {
            field(&mut block, &line);
        }
    }
    field(&mut block, &unfinished);
    (blocks, block)
}

fn field(block: &mut Block, line: &[u8]) {
    let mut halves = line.splitn(2, |byte| *byte == b':');
    let name = halves.next().unwrap_or_default();
    let value = halves.next().unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match name {
        b"event" => block.name = value.to_vec(),
        b"data" => match &mut block.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => block.data = Some(value.to_vec()),
        },
        _ => {}
    }
}
