// From the weights of a window table to its terms: scales, features, standard deviations and
// weights, maths §3 and §5 "Gradients". The Gaussians are computed again, band by band.
#include <algorithm>
#include <vector>

#include "densefield/threads.h"
#include "window_gradient.h"
#include "window_planes.h"
#include "window_scales.h"

namespace densefield::cpu {
namespace {

template <typename T>
Buffer<T> filled(int64_t count, T value) {
  Buffer<T> buffer(host_memory(), count);
  std::fill_n(buffer.data(), count, value);
  return buffer;
}

// Elements of a row of cells that inner loops may touch.
template <typename T>
int64_t row_room(const CpuWindowTable<T>& table) {
  return whole_blocks(table.geometry.extent[2]);
}

// What one tap reads of the gradient: by the weight to a pixel, and by the opposite one.
template <typename T>
struct TapGradients {
  const T* grad;
  const T* opposite;

  TapGradients(const CpuWindowTable<T>& table, const CpuWindowGradient<T>& gradient, int64_t row,
               const WindowRowSpan& span, int64_t tap, int64_t dx)
      : grad(gradient.row(row, tap)),
        opposite(gradient.row(row + table.geometry.row_distance(span),
                              table.geometry.num_taps - 1 - tap) +
                 dx) {}
};

// One term on its way back.
template <typename T>
class TermReverse {
 public:
  TermReverse(const CpuWindowTable<T>& table, const CpuWindowGradient<T>& gradient,
              const WindowTerm<T>& term)
      : table_(table),
        gradient_(gradient),
        term_(term),
        features_(table.cells, table.margin(), term.features),
        scales_(table, features_, term.normalization),
        // Normalised terms between cells have their weight and scales at the nodes.
        at_nodes_(table.cells.has_cells() && term.normalization != Normalization::none),
        factor_(at_nodes_ ? T(1) : term.weight),
        ones_(table.cells.has_cells()
                  ? filled(table.geometry.num_nodes() + 2 * table.margin(), T(1))
                  : Buffer<T>()),
        norm_(filled(table.geometry.num_nodes() + 2 * table.margin(), T(0))) {}

  void run(const WindowTermGradient<T>& out) {
    const int64_t num_nodes = table_.num_nodes();
    Buffer<T> grad_pre = filled(num_nodes, T(0)), grad_post = filled(num_nodes, T(0));
    if (at_nodes_) {
      std::copy_n(gradient_.pre.data(), num_nodes, grad_pre.data());
      std::copy_n(gradient_.post.data(), num_nodes, grad_post.data());
    } else {
      sum_scales(grad_pre.data(), grad_post.data());
    }
    *out.weight = weight_gradient(grad_post.data());
    if (term_.normalization != Normalization::none)
      reverse_normalization(grad_pre.data(), grad_post.data());
    reverse_features(out);
  }

 private:
  const T* pre() const {
    return (ones_.is_empty() ? scales_.pre.data() : ones_.data()) + table_.margin();
  }
  const T* post() const {
    return (ones_.is_empty() ? scales_.post.data() : ones_.data()) + table_.margin();
  }

  // Sums over the neighbours j of i: grad_post[i] = sum of g_ij pre_j dL/dK_ij and
  // grad_pre[i] = sum of g_ij post_j dL/dK_ji, on the grid of cells.
  void sum_scales(T* grad_pre, T* grad_post) const {
    const int64_t width = table_.geometry.extent[2], room = row_room(table_);
    for_bands(table_, features_, [&](const WindowPlanes<T>& planes, int64_t row) {
      std::vector<T> sums(static_cast<size_t>(2 * room), T(0));
      planes.for_taps(row, [&](const WindowRowSpan& span, int64_t tap, int64_t dx, const T* g) {
        const TapGradients<T> by(table_, gradient_, row, span, tap, dx);
        const int64_t there = (row + table_.geometry.row_distance(span)) * width + dx;
        simd::window_kernels<T>().add_scale_sums({width, g, by.grad, by.opposite, pre() + there,
                                                  post() + there, sums.data(), sums.data() + room});
      });
      std::copy_n(sums.data(), width, grad_pre + row * width);
      std::copy_n(sums.data() + room, width, grad_post + row * width);
    });
  }

  // K~ = weight post (K pre): the sum of post grad_post, where grad_post lacks the weight.
  double weight_gradient(const T* grad_post) const {
    const bool is_between_cells = table_.cells.has_cells() && !at_nodes_;
    const int64_t count = is_between_cells ? table_.geometry.num_nodes() : table_.num_nodes();
    const T* scale = is_between_cells ? post() : scales_.post.data() + scales_.margin;
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += double(scale[i]) * double(grad_post[i]);
    return sum;
  }

  // To norm_: the gradient by n = K 1, on the grid of cells.
  void reverse_normalization(const T* grad_pre, const T* grad_post) {
    const ScaleRule<T> rule = scale_rule(term_.normalization, T(1));
    const int64_t num_nodes = table_.num_nodes();
    // grad_pre at the nodes has the weight in it: it went through the table's `post`.
    const T pre_factor = at_nodes_ ? T(1) : term_.weight;
    Buffer<T> by_norm(host_memory(), num_nodes);
    for (int64_t i = 0; i < num_nodes; ++i)
      by_norm[i] = normalization_gradient(rule, scales_.pre[scales_.margin + i],
                                          scales_.post[scales_.margin + i],
                                          pre_factor * grad_pre[i], term_.weight * grad_post[i]);
    T* to = norm_.data() + table_.margin();
    if (!table_.cells.has_cells())
      std::copy_n(by_norm.data(), num_nodes, to);
    else
      upsample_transpose<T>(table_.cells, by_norm.data(), nullptr, 1, to);
  }

  // By features and standard deviations, from every pair's share of dL/dg g.
  void reverse_features(const WindowTermGradient<T>& out) {
    const size_t channels = features_.inverse_sigma.size();
    const int64_t width = table_.geometry.extent[2], cells = table_.geometry.num_nodes();
    const size_t num_sums = channels + 3;  // and the axes z, y, x
    std::vector<double> row_sums(static_cast<size_t>(table_.geometry.num_rows()) * num_sums, 0.0);
    Buffer<T> by_feature = filled(static_cast<int64_t>(channels) * cells, T(0));
    for_bands(table_, features_, [&](const WindowPlanes<T>& planes, int64_t row) {
      const int64_t room = row_room(table_);
      std::vector<T> lines((channels + 1) * static_cast<size_t>(room), T(0));
      T* share = lines.data() + channels * static_cast<size_t>(room);
      double* sums = row_sums.data() + static_cast<size_t>(row) * num_sums;
      planes.for_taps(row, [&](const WindowRowSpan& span, int64_t tap, int64_t dx, const T* g) {
        add_tap(row, span, tap, dx, g, lines.data(), share, sums);
      });
      for (size_t c = 0; c < channels; ++c)
        std::copy_n(lines.data() + c * static_cast<size_t>(room), width,
                    by_feature.data() + static_cast<int64_t>(c) * cells + row * width);
    });
    std::vector<double> sums(num_sums, 0.0);
    for (size_t e = 0; e < row_sums.size(); ++e) sums[e % num_sums] += row_sums[e];
    store_sigmas(sums, out);
    if (out.values.data != nullptr) store_values(by_feature.data(), out.values);
  }

  void add_tap(int64_t row, const WindowRowSpan& span, int64_t tap, int64_t dx, const T* g,
               T* grad_feature, T* share, double* sums) const {
    const size_t channels = features_.inverse_sigma.size();
    const int64_t width = table_.geometry.extent[2], here = row * width;
    const int64_t there = (row + table_.geometry.row_distance(span)) * width + dx;
    const T* norm = norm_.data() + table_.margin();
    std::vector<const T*> plane_here(channels), plane_there(channels);
    std::vector<double> squares(1 + channels);
    for (size_t c = 0; c < channels; ++c) {
      plane_here[c] = features_.plane(c) + here;
      plane_there[c] = features_.plane(c) + there;
    }
    const TapGradients<T> by(table_, gradient_, row, span, tap, dx);
    simd::window_kernels<T>().add_feature_sums(
        {width, g, by.grad, by.opposite, pre() + here, post() + here, pre() + there, post() + there,
         norm + here, norm + there, factor_, static_cast<int>(channels), plane_here.data(),
         plane_there.data(), row_room(table_), grad_feature, share, squares.data()});
    for (size_t c = 0; c < channels; ++c) sums[c] += squares[1 + c];
    for (size_t a = 0; a < 2; ++a) {
      const double step = features_.step_between_rows(a, row, span);
      sums[channels + a] += squares[0] * step * step;
    }
    sums[channels + 2] += squares[0] * features_.squared_along_row(dx);
  }

  // Steps along axes are in units of sigma already.
  void store_sigmas(const std::vector<double>& sums, const WindowTermGradient<T>& out) const {
    const Features<T>& features = term_.features;
    const size_t channels = features.sigma_value.size(), planes = features_.inverse_sigma.size();
    const auto of_plane = [&](size_t c, T sigma) {
      const double inverse = double(features_.inverse_sigma[c]);
      return window_sigma_gradient(sums[c] * inverse * inverse, double(sigma));
    };
    for (size_t c = 0; c < channels; ++c) out.sigma_value[c] = of_plane(c, features.sigma_value[c]);
    for (size_t a = 0; a < features.sigma_position.size(); ++a)
      out.sigma_position[a] =
          window_sigma_gradient(sums[planes + 2 - a], double(features.sigma_position[a]));
    if (features_.has_x_plane())
      out.sigma_position[0] = of_plane(channels, features.sigma_position[0]);
  }

  void store_values(const T* by_feature, const NodeView<T>& values) const {
    const int64_t num_nodes = table_.num_nodes(), cells = table_.geometry.num_nodes();
    Buffer<T> nodes(host_memory(), table_.cells.has_cells() ? num_nodes : 0);
    for (int64_t c = 0; c < values.num_channels; ++c) {
      const T* from = by_feature + c * cells;
      if (table_.cells.has_cells()) {
        pool_transpose(table_.cells, from, 1, nodes.data());
        from = nodes.data();
      }
      const T inverse = features_.inverse_sigma[static_cast<size_t>(c)];
      for (int64_t i = 0; i < num_nodes; ++i) values.at(c, i) += from[i] * inverse * inverse;
    }
  }

  const CpuWindowTable<T>& table_;
  const CpuWindowGradient<T>& gradient_;
  const WindowTerm<T>& term_;
  const WindowFeatures<T> features_;
  const NodeScales<T> scales_;
  const bool at_nodes_;
  const T factor_;        // of the weights on the grid of cells
  const Buffer<T> ones_;  // scales on a grid of cells of several nodes; empty: scales_
  Buffer<T> norm_;        // [cells] with margins: by n = K 1
};

}  // namespace

template <typename T>
void window_term_gradients(const CpuWindowTable<T>& table, CpuWindowGradient<T>& gradient,
                           std::span<const WindowTermGradient<T>> terms) {
  fold_diagonal(table, gradient);
  for (const WindowTermGradient<T>& out : terms)
    TermReverse<T>(table, gradient, *out.term).run(out);
}

#define DF_INSTANTIATE(T)                                                              \
  template void window_term_gradients(const CpuWindowTable<T>&, CpuWindowGradient<T>&, \
                                      std::span<const WindowTermGradient<T>>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
