//! The kernel side as the agent sees it: the object loaded, programs attached and pinned, maps written and read.
mod object;
mod sys;
