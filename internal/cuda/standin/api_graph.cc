// Capture of streams into graphs, and their launch. A graph keeps tasks; a launch gives them to streams of its own, one
// for each chain of nodes, between two marks in the stream it is launched in.
#include <algorithm>

#include "driver.h"

namespace standin {

struct GraphNode {
  Task task;
  std::vector<int> after;
  int chain; // which of the graph's own streams it runs in
};

struct Graph {
  std::vector<GraphNode> nodes;
  int chains = 0;
  bool alive = true, exempt = false;
};

struct GraphExec {
  Graph graph;
  std::vector<Stream *> streams;
  bool alive = true, exempt = false;
};

struct Capture {
  Stream *origin;
  CUstreamCaptureMode mode;
  Graph graph;
  bool valid = true;
};

static std::vector<std::unique_ptr<Graph>> graphs;
static std::vector<std::unique_ptr<GraphExec>> execs;

size_t live_graphs() {
  auto alive = [](auto &g) { return g->alive && !g->exempt; };
  return std::count_if(graphs.begin(), graphs.end(), alive) + std::count_if(execs.begin(), execs.end(), alive);
}

void forget_graphs() {
  graphs.clear();
  execs.clear();
}

bool capturing() {
  return std::any_of(state.streams.begin(), state.streams.end(), [](auto &s) { return s->capture && s->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED; });
}

CUresult invalidate_captures() {
  for (auto &s : state.streams)
    if (s->capture) s->capture->valid = false;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult enqueue(Stream *s, const Task &task) {
  if (!s->capture) {
    bool implicit = s->number == 0 && std::any_of(state.streams.begin(), state.streams.end(), [](auto &o) { return o->capture && !(o->flags & CU_STREAM_NON_BLOCKING); });
    if (implicit) {
      invalidate_captures();
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    submit(s, task);
    return CUDA_SUCCESS;
  }
  if (!s->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  Graph &g = s->capture->graph;
  int chain = -1; // that of a node it follows, if no other node followed that one
  for (int a : s->frontier)
    if (chain < 0 && std::none_of(g.nodes.begin(), g.nodes.end(), [&](GraphNode &n) { return std::find(n.after.begin(), n.after.end(), a) != n.after.end() && n.chain == g.nodes[a].chain; }))
      chain = g.nodes[a].chain;
  if (chain < 0) chain = g.chains++;
  g.nodes.push_back(GraphNode{task, s->frontier, chain});
  s->frontier = {(int)g.nodes.size() - 1};
  return CUDA_SUCCESS;
}

static Graph *graph_of(CUgraph handle) {
  for (auto &g : graphs)
    if ((CUgraph)g.get() == handle && g->alive) return g.get();
  return nullptr;
}

static GraphExec *exec_of(CUgraphExec handle) {
  for (auto &e : execs)
    if ((CUgraphExec)e.get() == handle && e->alive) return e.get();
  return nullptr;
}

} // namespace standin

using namespace standin;

#define NOT_NULL(p) \
  if (!(p)) return CUDA_ERROR_INVALID_VALUE
#define STREAM(s, handle)                   \
  CUresult s##_error;                       \
  Stream *s = stream_of(handle, s##_error); \
  if (!s) return s##_error

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
  if (s->number == 0) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (s->capture) return CUDA_ERROR_ILLEGAL_STATE;
  s->capture = std::make_shared<Capture>();
  s->capture->origin = s, s->capture->mode = mode;
  s->frontier.clear();
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(status);
  *status = !s->capture ? CU_STREAM_CAPTURE_STATUS_NONE : s->capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  NOT_NULL(graph);
  *graph = nullptr;
  auto capture = s->capture;
  if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != s) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  CUresult result = capture->valid ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  // All work of the streams that joined must have been joined again: nodes that nobody follows are the origin's.
  const auto &nodes = capture->graph.nodes;
  for (int i = 0; i < (int)nodes.size() && !result; i++) {
    bool followed = std::find(s->frontier.begin(), s->frontier.end(), i) != s->frontier.end();
    for (const GraphNode &n : nodes) followed |= std::find(n.after.begin(), n.after.end(), i) != n.after.end();
    if (!followed) result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  for (auto &o : state.streams)
    if (o->capture == capture) o->capture = nullptr, o->frontier.clear();
  if (result) return result;
  graphs.push_back(std::make_unique<Graph>(std::move(capture->graph)));
  *graph = (CUgraph)graphs.back().get();
  return CUDA_SUCCESS;
}

CUresult cuGraphCreate(CUgraph *graph, unsigned int flags) {
  ENTER(Call::INITIALISED);
  NOT_NULL(graph && !flags);
  graphs.push_back(std::make_unique<Graph>());
  *graph = (CUgraph)graphs.back().get();
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  Call call("cuGraphDestroy", Call::INITIALISED);
  Graph *g = graph_of(graph);
  if (call.injected && g) g->exempt = true;
  if (call.refused || call.dropped) return call.refused;
  NOT_NULL(g);
  g->alive = false;
  g->nodes.clear();
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *n) {
  ENTER(Call::INITIALISED);
  Graph *g = graph_of(graph);
  NOT_NULL(g && n);
  if (nodes)
    for (size_t i = 0; i < *n; i++) nodes[i] = i < g->nodes.size() ? (CUgraphNode)(i + 1) : nullptr;
  *n = nodes ? std::min(*n, g->nodes.size()) : g->nodes.size();
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  ENTER(Call::CONTEXT);
  Graph *g = graph_of(graph);
  NOT_NULL(exec && g);
  (void)flags;
  execs.push_back(std::make_unique<GraphExec>());
  execs.back()->graph = *g;
  *exec = (CUgraphExec)execs.back().get();
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  ENTER(Call::CONTEXT);
  STREAM(s, stream);
  GraphExec *e = exec_of(exec);
  NOT_NULL(e);
  if (s->capture) return CUDA_ERROR_NOT_SUPPORTED; // a child graph: we do not use them
  while ((int)e->streams.size() < e->graph.chains) {
    e->streams.push_back(new_stream(CU_STREAM_NON_BLOCKING, 0));
    e->streams.back()->exempt = true;
  }
  OpRef start = submit(s, Task{"launch of a graph", 0, nullptr});
  std::vector<OpRef> ops;
  for (const GraphNode &n : e->graph.nodes) {
    std::vector<OpRef> after{start};
    for (int a : n.after) after.push_back(ops[a]);
    ops.push_back(submit(e->streams[n.chain], n.task, after));
  }
  submit(s, Task{"end of a graph", 0, nullptr}, ops);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  Call call("cuGraphExecDestroy", Call::INITIALISED);
  GraphExec *e = exec_of(exec);
  if (call.injected && e) e->exempt = true;
  if (call.refused || call.dropped) return call.refused;
  NOT_NULL(e);
  e->alive = false; // launched work still runs
  return CUDA_SUCCESS;
}
