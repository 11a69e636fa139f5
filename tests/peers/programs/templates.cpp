// A large translation unit: the library's headers, and templates that are instantiated over types
// made by templates. LEVELS is defined by whoever compiles this.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
#if LEVELS > 10
#include <iostream>
#include <regex>
#endif

template <int N> struct Record {
    std::map<std::string, std::vector<std::tuple<int, double, Record<N - 1> *>>> rows;
    std::variant<int, std::string, std::unique_ptr<Record<N - 1>>> other;
    std::size_t sum(const std::function<std::size_t(const std::string &)> &weigh) const {
        std::size_t total = N;
        for (const auto &[key, list] : rows)
            total += std::accumulate(list.begin(), list.end(), weigh(key), [](auto left, auto &right) {
                return left + static_cast<std::size_t>(std::get<0>(right));
            });
        if (auto inner = std::get_if<2>(&other)) total += (*inner)->sum(weigh);
        return total;
    }
    void order() {
        for (auto &[key, list] : rows)
            std::sort(list.begin(), list.end(), [](auto &left, auto &right) {
                return std::get<1>(left) * N < std::get<1>(right);
            });
        if (auto inner = std::get_if<2>(&other)) (*inner)->order();
    }
};

template <> struct Record<0> {
    std::size_t sum(const std::function<std::size_t(const std::string &)> &) const { return 0; }
    void order() {}
};

std::size_t all(Record<LEVELS> &record) {
    record.order();
    return record.sum([](const std::string &key) { return key.size(); });
}
