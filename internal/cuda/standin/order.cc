// Happens-before. A piece of work is ordered after another if a chain of stream order, events and waits of the host
// leads from one to the other; its clock says so. What is not ordered may run either way round on a device.
#include <algorithm>

#include "driver.h"

namespace standin {

void join(Clock &a, const Clock &b) {
  if (a.size() < b.size()) a.resize(b.size());
  for (size_t i = 0; i < b.size(); i++) a[i] = std::max(a[i], b[i]);
}

// Time 0 is what the host did at once.
bool covers(const Clock &now, const Access &a) { return !a.time || (a.stream < now.size() && now[a.stream] >= a.time); }

const std::string *keep(const std::string &text) {
  static std::set<std::string> texts;
  return &*texts.insert(text).first;
}

Shadow::Shadow(uint64_t begin, uint64_t end, bool written) { cells[begin] = Cell{end, written, true, Access{0, 0, nullptr, 0}, {}}; }

void Shadow::split(uint64_t at) {
  auto c = cells.upper_bound(at);
  if (c == cells.begin()) return;
  --c;
  if (c->first == at || c->second.end <= at) return;
  cells[at] = c->second;
  c->second.end = at;
}

static std::string span(uint64_t begin, uint64_t end) {
  char text[64];
  snprintf(text, sizeof text, "0x%llx+%llu", (unsigned long long)begin, (unsigned long long)(end - begin));
  return text;
}

std::string Access::text() const {
  return *name + " (call " + std::to_string(call) + ", stream " + std::to_string(stream) + ")";
}

void Shadow::access(uint64_t begin, uint64_t end, Mode mode, const Access &by, const Clock &now) {
  split(begin);
  split(end);
  auto first = cells.find(begin);
  if (first == cells.end()) return;
  auto c = first;
  for (; c != cells.end() && c->first < end; ++c) {
    Cell &cell = c->second;
    auto found = [&](const char *deed, const std::string &rest) { report(by.text() + " " + deed + " " + span(c->first, cell.end) + rest); };
    if (!cell.usable) found(mode == READ ? "reads" : "writes", ", which is free");
    if (cell.writer.name && !covers(now, cell.writer))
      found(mode == READ ? "reads" : "overwrites", " without being ordered after " + cell.writer.text() + ", which writes it");
    else if (mode == READ && !cell.written && cell.usable)
      found("reads", ", which nobody wrote");
    if (mode == WRITE) {
      for (const Access &r : cell.readers)
        if (!covers(now, r)) found("overwrites", " without being ordered after " + r.text() + ", which reads it");
    } else {
      auto &rs = cell.readers; // an earlier one of the same stream is covered by whatever covers this one
      rs.erase(std::remove_if(rs.begin(), rs.end(), [&](const Access &r) { return r.stream == by.stream; }), rs.end());
      rs.push_back(by);
    }
  }
  if (mode == WRITE) {
    bool usable = first->second.usable;
    cells.erase(first, c);
    cells[begin] = Cell{end, true, usable, by, {}};
  }
}

void Shadow::renew(uint64_t begin, uint64_t end, int life, const Access &by, const Clock &now) {
  split(begin);
  split(end);
  for (auto c = cells.find(begin); c != cells.end() && c->first < end; ++c) c->second.usable = true;
  access(begin, end, WRITE, by, now);
  auto c = cells.find(begin);
  if (c == cells.end()) return;
  c->second.written = false;
  c->second.usable = life != EURYALE_FREE;
}

void Shadow::check_all(const std::string &deed, const Clock &now) const {
  for (const auto &[begin, cell] : cells) {
    if (cell.writer.name && !covers(now, cell.writer))
      report(deed + " without waiting for " + *cell.writer.name + ", which writes " + span(begin, cell.end));
    for (const Access &r : cell.readers)
      if (!covers(now, r)) report(deed + " without waiting for " + r.text() + ", which reads " + span(begin, cell.end));
  }
}

} // namespace standin
