//! The order of a stream's events, and when each is due.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::answer::{Answer, Endpoint};
use crate::flavor::Flavor;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A comment that keeps the connection alive.
    Ping,
    /// The assistant's role, without text.
    Role(u32),
    /// Some tokens; `last` if this chunk also carries the finish reason.
    Piece { choice: u32, tokens: Range<u32>, last: bool },
    /// The finish reason without text.
    Finish(u32),
    /// The usage of one choice, or of all.
    Usage(Option<u32>),
    /// An error inside the stream.
    Failure,
    /// `[DONE]`.
    Done,
}

#[derive(Debug)]
enum Stage {
    Opening,
    Round(u32),
    Coda,
    End,
}

/// The events of one answer, generated round by round: a round is one chunk of every choice.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) answer: Answer,
    stage: Stage,
    due: Duration,
    queue: VecDeque<Step>,
}

impl Script {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, stage: Stage::Opening, due: Duration::ZERO, queue: VecDeque::new() }
    }

    /// Return the next event and when it is due, counted from the request.
    pub(crate) fn next(&mut self) -> Option<(Duration, Step)> {
        loop {
            if let Some(step) = self.queue.pop_front() {
                return Some((self.due, step));
            }
            match self.stage {
                Stage::Opening => self.open(),
                Stage::Round(start) => self.play_round(start),
                Stage::Coda => self.close(),
                Stage::End => return None,
            }
        }
    }

    /// Break the stream off with an error, as the engine does it.
    pub(crate) fn fail(&mut self) {
        self.queue.clear();
        self.queue.push_back(Step::Failure);
        if self.answer.flavor.sends_done_after_error() {
            self.queue.push_back(Step::Done);
        }
        self.stage = Stage::End;
    }

    fn open(&mut self) {
        self.stage = Stage::Round(0);
        match self.answer.flavor {
            Flavor::Transformers if self.answer.endpoint == Endpoint::Chat => {
                self.queue.push_back(Step::Role(0))
            }
            Flavor::Tgi if !self.answer.ttft.is_zero() => self.queue.push_back(Step::Ping),
            _ => {}
        }
    }

    fn play_round(&mut self, start: u32) {
        let answer = &self.answer;
        let tokens = answer.chunk(start);
        let last = tokens.end >= answer.tokens;
        let chat = answer.endpoint == Endpoint::Chat;
        let roles = start == 0 && chat;
        let finishes = last && finishes_with_text(answer);
        self.due = answer.due(&tokens);
        if roles && matches!(answer.flavor, Flavor::Openai | Flavor::Vllm) {
            self.queue.extend((0..answer.choices).map(Step::Role));
        }
        for choice in 0..answer.choices {
            if roles && matches!(answer.flavor, Flavor::Sglang | Flavor::Llamacpp) {
                self.queue.push_back(Step::Role(choice));
            }
            self.queue.push_back(Step::Piece { choice, tokens: tokens.clone(), last: finishes });
            if last && answer.flavor == Flavor::Llamacpp {
                self.queue.push_back(Step::Finish(choice));
                if chat && answer.include_usage {
                    self.queue.push_back(Step::Usage(Some(choice)));
                }
            }
        }
        self.stage = if last { Stage::Coda } else { Stage::Round(tokens.end) };
    }

    fn close(&mut self) {
        let answer = &self.answer;
        let ended = finishes_with_text(answer) || answer.flavor == Flavor::Llamacpp;
        if !ended {
            self.queue.extend((0..answer.choices).map(Step::Finish));
        }
        if answer.include_usage && !matches!(answer.flavor, Flavor::Llamacpp | Flavor::Transformers)
        {
            self.queue.push_back(Step::Usage(None));
        }
        if answer.flavor.sends_done() {
            self.queue.push_back(Step::Done);
        }
        self.stage = Stage::End;
    }
}

/// Whether the finish reason stands beside the last text, not in an event of its own.
fn finishes_with_text(answer: &Answer) -> bool {
    match answer.flavor {
        Flavor::Vllm => true,
        // TGI's end-of-sequence token is an event of its own, a limit is not.
        Flavor::Tgi => answer.finish == "length",
        Flavor::Sglang => answer.endpoint == Endpoint::Completion,
        Flavor::Openai | Flavor::Transformers | Flavor::Llamacpp | Flavor::Ollama => false,
    }
}
